"""States of a restoration for training: what an update leaves of an error, against dense twins."""

import pretended_device
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import PriorSpec
from undegrade.pipelines.operators.motion_blur import walk_kernel
from undegrade.training import restored_states as states

CPU, SIDE = torch.device("cpu"), 16


class Wrong(PixelPrior):
    """Predicts the picture and half of its noise."""

    def denoise_levels(self, x, sigma, level):
        self.asked.append(sigma)
        return self.x0 + 0.5 * (x - self.x0)


def wrong(x0):
    prior = Wrong(nn.Linear(1, 1), PriorSpec())
    object.__setattr__(prior, "asked", [])
    object.__setattr__(prior, "x0", x0)
    return prior


def update(A, right, rho):
    """(A^T A + rho)^-1 right of one channel, by the normal equations."""
    matrix = A.T @ A + rho * torch.eye(A.shape[1], dtype=torch.float64)
    return torch.linalg.solve(matrix, right.double().flatten()).reshape(right.shape)


def round_the_edges(kernel, side):
    """The matrix of a correlation that goes round the edges, of any kernel."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in kernel.shape), indexing="ij")
    A = torch.zeros(side, side, side, side, dtype=torch.float64)
    for y in range(side):
        for x in range(side):
            place = ((y + rows.flatten()) % side, (x + columns.flatten()) % side)
            A[y, x].index_put_(place, kernel.double().flatten(), accumulate=True)
    return A.reshape(side**2, side**2)


def repeated(side, factor):
    """The matrix that enlarges pictures of a side by repeating pixels."""
    eye = torch.eye(side**2, dtype=torch.float64).reshape(-1, 1, side, side)
    return F.interpolate(eye, scale_factor=factor).flatten(1).T


@pytest.mark.parametrize(("size", "factor"), [(5, 1), (31, 1), (5, 2), (31, 2)])
def test_blurs_leave_what_their_dense_twin_leaves(size, factor, draw):
    """Kernels wider than the picture, too: errors, what no reduced picture explains, and the noise
    that is missing where iterations stop."""
    kernel = walk_kernel(size, 0.5, 3)
    blurs = states.Blurs([kernel], 8, factor, CPU)
    e, noise, z = draw(2, 1, 8, 8), draw(2, 1, 8, 8), draw(2, 1, 8 * factor, 8 * factor)
    rho, early = (torch.tensor(t)[:, None, None, None] for t in ([0.003, 0.4], [0.1, torch.inf]))
    found = blurs(e, z, noise, rho, early, torch.Generator())
    K = round_the_edges(kernel, 8 * factor)
    A = K @ repeated(8, factor)
    for b in range(2):
        right = float(rho[b]) * e[b].double().flatten() + A.T @ K @ z[b].double().flatten()
        expected = update(A, right, float(rho[b]))
        if b == 0:
            expected -= 2 * update(A, A.T @ A @ noise[b].double().flatten(), float(early[b]))
        assert torch.allclose(found[b].double().flatten(), expected, atol=2e-5)


@pytest.mark.parametrize("square", [1, 4])
def test_means_leave_what_their_dense_twin_leaves(square, draw):
    e, rho = draw(2, 1, SIDE, SIDE), torch.tensor([0.003, 0.4])[:, None, None, None]
    A = repeated(SIDE // square, square).T / square**2
    left = states.averaged(e, rho, square)
    for b in range(2):
        expected = update(A, float(rho[b]) * e[b], float(rho[b]))
        assert torch.allclose(left[b].double(), expected, atol=2e-5)


def test_masks_leave_all_where_nothing_is_seen():
    e, rho = torch.ones(200, 3, 8, 8), torch.full((200, 1, 1, 1), 0.25)
    left = states.masked(e, 0 * e, rho, torch.Generator().manual_seed(0))
    assert left.unique().tolist() == pytest.approx([0.2, 1.0])
    assert torch.equal(left[:, :1].expand_as(left), left), "a pixel is seen in all its colours"
    hidden = (left[:, 0] == 1).float().mean((1, 2))
    assert 0.15 < hidden.min() < 0.45 and 0.8 < hidden.max() <= 1
    assert abs(float(hidden.mean()) - sum(states.HIDDEN) / 2) < 0.05


def test_masks_take_details_that_they_see_for_a_mean(draw):
    """Without belief in a prediction a reduced pixel is the mean of its seen pixels."""
    e, z = torch.full((40, 1, 4, 4), 9.0), draw(40, 1, 8, 8)
    rho = torch.full((40, 1, 1, 1), 1e-6)
    left = states.masked(e, z, rho, torch.Generator().manual_seed(0))
    inside = z.unflatten(2, (4, 2)).unflatten(4, (4, 2)).transpose(3, 4).flatten(4)
    unseen = left == 9
    assert 0.2 < unseen.float().mean() < 0.5
    assert (unseen | ((left > inside.amin(4) - 1e-4) & (left < inside.amax(4) + 1e-4))).all()
    assert ((left - inside.mean(4)).abs() < 1e-4).float().mean() < 0.2, "not of all of them"


def test_a_share_of_the_states_holds_errors(draw):
    """Of the level before, in the first crops of every reduction."""
    counts = {1: 4, 2: 2}
    wholes = [draw(4, 3, SIDE, SIDE), draw(2, 3, 2 * SIDE, 2 * SIDE)]
    x0 = torch.cat([wholes[0], F.avg_pool2d(wholes[1], 2)])
    sigma, level = torch.linspace(0.1, 1.0, 6), torch.tensor([0.0, 0, 0, 0, 1, 1])
    some = states.RestoredStates(0.5, counts, SIDE, 1, CPU)
    noise = sigma[:, None, None, None] * draw(6, 3, SIDE, SIDE)
    prior = wrong(x0[[0, 1, 4]])
    found = some.added(
        prior, x0, noise, wholes, sigma, level, torch.Generator().manual_seed(2)
    )
    changed = (found != x0 + noise).flatten(1).any(1)
    assert changed.tolist() == [True, True, False, False, True, False]
    (before,) = prior.asked
    low, high = states.BEFORE
    told = sigma[[0, 1, 4]]
    assert (before >= low * told).all() and (before <= high * told).all()


def test_nothing_is_asked_of_the_host():
    with pretended_device.pretended() as waits:
        card = pretended_device.CARD
        network = PixelNetwork((8, 12), blocks=1, embedding=24).to(card)
        prior = PixelPrior(network, PriorSpec(multiple_of=4))
        some = states.RestoredStates(0.5, {1: 4}, SIDE, 1, card)
        x0, sigma = torch.zeros(4, 3, SIDE, SIDE, device=card), torch.ones(4, device=card)
        waits.uploads.clear()
        some.added(prior, x0, x0, [x0], sigma, 0 * sigma, torch.Generator().manual_seed(0))
        assert not waits.uploads and not waits.reads
