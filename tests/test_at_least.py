"""Clipped pixels as bounds: the one-sided minimum, every update, levels, and light beyond white."""

from itertools import product

import pytest
import torch
from dense_twins import asymmetric, dense

from undegrade.models.codec import IDENTITY
from undegrade.models.prior import PriorSpec
from undegrade.nodes.comfyui.wall import left
from undegrade.nodes.scores import MeasurementConsistency
from undegrade.nodes.watched import WatchedOperator
from undegrade.pipelines.level import level_operator
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.at_least import AtLeast
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.schedule import Schedule
from undegrade.pipelines.subdaps import complement
from undegrade.pipelines.subdaps.draws import draw as drawn
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.fletcher_reeves import fletcher_reeves
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.spectral import spectral_update
from undegrade.pipelines.updates.update import Surroundings


def lamps(height, width, share=0.3, batch=1):
    """(clipped, a blur by which they are bounds, and one by which they are hidden)."""
    generator = torch.Generator().manual_seed(height)
    clipped = (torch.rand(batch, 1, height, width, generator=generator) < share).float()
    blur, all_of_it = asymmetric("replicate"), torch.ones(batch, 1, height, width)
    bounded, hidden = AtLeast(all_of_it, clipped=clipped), Inpainting(1 - clipped)
    return clipped, Compose((blur, bounded)), Compose((blur, hidden))


def one_sided(A, y, clipped, x0_hat, rho):
    """argmin 1/2 |y - A z|^2 + rho/2 |z - x0_hat|^2 with clipped rows as bounds, every set of
    active ones tried: the one whose solution calls just those active."""
    unit, bounds = torch.eye(A.shape[1], dtype=torch.float64), clipped.nonzero().flatten()
    for active in product((0.0, 1.0), repeat=len(bounds)):
        w = torch.ones(len(A), dtype=torch.float64)
        w[bounds] = torch.tensor(active, dtype=torch.float64)
        z = torch.linalg.solve(A.T @ (w[:, None] * A) + rho * unit, A.T @ (w * y) + rho * x0_hat)
        if torch.equal(((y - A @ z)[bounds] > 0).double(), w[bounds]):
            return z
    raise AssertionError("a strictly convex function has a minimum")


def test_enough_steps_reach_the_one_sided_minimum(draw):
    size = (1, 5, 4)
    clipped, operator, _ = lamps(*size[1:])
    assert 4 <= clipped.sum() <= 9
    x0_hat, y, A = draw(3, *size), draw(3, *size), dense(operator, size)
    with torch.inference_mode(), left():
        x0_y = ConjugateGradient(150, tolerance=0.0)(x0_hat, 1.0, Measurement(y, operator, 0.1))
    active = 0
    for b in range(3):
        z, known, start = (v[b].double().flatten() for v in (x0_y, y, x0_hat))
        expected = one_sided(A, known, clipped.flatten(), start, 0.01)
        assert (z - expected).abs().max() < 2e-5
        active += int(((known - A @ expected)[clipped.flatten() > 0] > 0).sum())
    assert 0 < active < 3 * int(clipped.sum()), "some hold it up, some are passed"


def test_every_step_lowers_what_is_minimised_and_a_batch_is_its_samples(draw):
    operator = lamps(37, 31)[1]
    x0_hat, y, rho = 0.5 * draw(3, 3, 37, 31), 0.5 * draw(3, 3, 37, 31), 1e-4

    def objective(z):
        terms = operator.residual(y - operator(z)).square() + rho * (z - x0_hat).square()
        return 0.5 * terms.flatten(1).sum(1)

    values = [objective(x0_hat)]
    for steps in (1, 2, 3, 5, 8, 13, 21):
        z = fletcher_reeves(operator, y, x0_hat, rho, steps)
        values.append(objective(z))
        assert (values[-1] < values[-2]).all()
    alone = fletcher_reeves(operator, y[1:2], x0_hat[1:2], rho, 21)
    assert torch.equal(alone[0], z[1])
    d, r = draw(3, 3, 37, 31), draw(3, 3, 37, 31)
    forwards, backwards = (operator(d) * r).sum(), (d * operator.vjp(x0_hat)[1](r)).sum()
    assert float(forwards) == pytest.approx(float(backwards), rel=1e-4)


def dark_and_bright(draw):
    """A prediction whose clipped pixels are all too bright, and one where they are too dark."""
    clipped, operator, _ = lamps(12, 16)
    x0_hat = 0.3 * draw(1, 3, 12, 16)
    seen = operator(x0_hat)
    return clipped, operator, x0_hat, [seen - 0.5 * clipped, seen + 0.5 * clipped]


@pytest.mark.parametrize("update", [
    ConjugateGradient(), ConjugateGradient(preconditioned=False), Langevin(5),
    LikelihoodGradient(0.3), "spectral",
], ids=["CG", "CG, plain", "Langevin", "DPS", "spectral"])
def test_no_update_darkens_what_is_bright_enough_and_all_lift_what_is_not(draw, update):
    clipped, operator, x0_hat, (bright_enough, too_dark) = dark_and_bright(draw)
    around = Surroundings(1.0, 0.5, torch.zeros_like, pullback=lambda u: u)

    def moved(y):
        m = Measurement(y, operator, 0.05)
        if update == "spectral":
            return spectral_update(x0_hat, ((0.3,) * 9, (0.3,) * 9), m) - x0_hat
        return update(x0_hat, 0.5, m, around) - x0_hat

    assert moved(bright_enough).abs().max() < 1e-6
    lifted = operator(moved(too_dark))[clipped.expand_as(x0_hat) > 0]
    assert float(lifted.mean()) > 1e-4


def test_silence_says_nothing_of_clipped_pixels(draw):
    """The noise that is added to a state is that of a measurement without them."""
    x0_hat, n = draw(2, 3, 12, 16), draw(2, 3, 12, 16)
    around = Surroundings(1.0, 0.25, per_sample_noise([1, 2]))
    for batch in (1, 2):  # one mask for both, and one for each
        _, bounded, hidden = lamps(12, 16, batch=batch)
        y = bounded(draw(2, 3, 12, 16))
        update = ConjugateGradient(200, 1e-6)
        added = [complement.updated(x0_hat, n, 0.5, update, Measurement(y, a, 0.1), around)[1]
                 for a in (bounded, hidden)]
        torch.testing.assert_close(*added, atol=1e-3, rtol=0)


def test_levels_and_wrappers_keep_the_bound(draw):
    clipped, operator, _ = lamps(37, 31)
    m = Measurement(draw(1, 3, 37, 31), operator, 0.1)
    difference = draw(1, 3, 37, 31)
    expected = torch.where(clipped > 0, difference.clamp(min=0), difference)
    for made in (operator, WatchedOperator(operator), level_operator(m, (40, 32), 2)):
        assert made.bounded and made.linear
        assert torch.equal(made.residual(difference), expected)
    own = AtLeast(torch.ones(2, 1, 3, 4), clipped=torch.eye(2)[:, :, None, None].expand(2, 2, 3, 4))
    alone = own.of_sample(1, 4)  # the second of four has the first mask
    assert torch.equal(alone.clipped, own.clipped[:1])
    with pytest.raises(ValueError, match=r"clipped has shape \(1, 1, 3, 5\) and the mask"):
        AtLeast(torch.ones(1, 1, 3, 4), clipped=torch.zeros(1, 1, 3, 5))


def test_a_picture_that_is_bright_enough_is_consistent():
    clipped, operator, _ = lamps(37, 31)
    of_grey = operator(torch.zeros(1, 3, 37, 31))
    brighter, darker = (Measurement(of_grey + sign * 0.1 * clipped, operator, 0.01)
                        for sign in (1, -1))
    grey = torch.full((1, 37, 31, 3), 0.5)
    ratios = [MeasurementConsistency().compare(grey, each, 1.0)["result"][1]
              for each in (brighter, darker)]
    assert ratios[0] > 1 > 1e-3 > ratios[1]


class Clamping:
    """A prior that knows nothing brighter than white, and takes notes."""

    codec = IDENTITY

    def __init__(self):
        self.spec, self.seen = PriorSpec(factors=(2, 1), switch_points=(0.5,)), []

    def denoise(self, x, sigma, factor=1):
        self.seen.append(float((x / (1 + 5 * sigma)[:, None, None, None]).max()))
        return x.clamp(-1, 1)


@pytest.mark.parametrize("sampler", ["restore", "draw"])
def test_a_lamp_becomes_brighter_than_white_and_the_network_never_sees_it(sampler):
    truth = torch.full((1, 3, 24, 20), -0.8)
    truth[..., 8:14, 6:12] = 6.0
    blur = asymmetric("replicate")
    y = blur(truth).clamp(max=1)
    operator = Compose((blur, AtLeast(torch.ones(1, 1, 24, 20), clipped=(y >= 0.96).float())))
    schedule = Schedule(torch.tensor([1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.0]), (2, 2, *[1] * 5))
    m, prior = Measurement(y, operator, 0.02), Clamping()
    run = {"restore": restore, "draw": drawn}[sampler]
    with torch.inference_mode(), left():
        *_, last = run(prior, m, schedule, ConjugateGradient(), per_sample_noise([0]))
    assert float(last.x0_hat.max()) > 2 and max(prior.seen) < 1.05
    assert float((operator.residual(y - operator(last.x0_hat))).square().mean().sqrt()) < 0.06


def test_a_bound_is_the_last_of_a_chain():
    _, bounded, _ = lamps(8, 8)
    assert Compose((asymmetric("replicate"), bounded)).bounded
    with pytest.raises(ValueError, match="give the operator with clipped pixels last"):
        Compose((bounded, asymmetric("replicate")))
