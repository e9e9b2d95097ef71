"""Measurement updates: dense solves, one sample in a batch, where they end, what they refuse."""

import pytest
import torch
from dense_twins import asymmetric, dense, dense_minimum, random_mask

from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.canvas import NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.updates.conjugate_gradient import (
    ConjugateGradient,
    belief_std,
)
from undegrade.pipelines.updates.fletcher_reeves import fletcher_reeves
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.update import Surroundings

SQUARE = {
    "mask": lambda: random_mask(1, 8, 12),
    "downscale": lambda: Downscale(4),
    "replicate": lambda: asymmetric("replicate"),
    "circular": lambda: asymmetric("circular"),
    "official": lambda: asymmetric("official"),
}


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("name", SQUARE)
def test_enough_steps_reach_the_dense_minimum(draw, name, preconditioned):
    operator, size = SQUARE[name](), (1, 8, 12)
    x0_hat = draw(3, *size)
    y = operator(draw(3, *size)) + 0.1 * draw(*operator(x0_hat).shape)
    update = ConjugateGradient(150, tolerance=0.0, preconditioned=preconditioned)
    x0_y = update(x0_hat, 1.0, Measurement(y, operator, 0.1))
    assert (x0_y - dense_minimum(dense(operator, size), y, x0_hat, 0.01)).abs().max() < 2e-5


def test_one_preconditioned_step_is_enough_for_a_mask_at_a_coarse_level(draw):
    mask, size = random_mask(1, 8, 12), (1, 2, 3)
    operator, x0_hat, y = Compose((NearestUpsample(4), mask)), draw(2, *size), draw(2, 1, 8, 12)
    expected = dense_minimum(dense(operator, size), y, x0_hat, 0.01)
    for preconditioned, enough in [(True, True), (False, False)]:
        update = ConjugateGradient(1, 0.0, preconditioned)
        x0_y = update(x0_hat, 1.0, Measurement(y, operator, 0.1))
        assert ((x0_y - expected).abs().max() < 1e-5) == enough


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "operator", [random_mask(3, 104, 108), Downscale(4), HDRClip()], ids=["mask", "down", "hdr"]
)
def test_a_sample_is_the_same_alone_and_in_a_batch(draw, two_threads, operator):
    size = (3, 104, 108)  # large enough that a sum over one sample is split among threads
    x0_hat, y = draw(3, *size), operator(draw(3, *size))
    x0_hat[1] *= 5
    update = ConjugateGradient(iterations=2, tolerance=0.0)
    together = update(x0_hat, 0.7, Measurement(y, operator, 0.05))
    for b in range(3):
        s = slice(b, b + 1)
        own = Inpainting(operator.seen[s]) if isinstance(operator, Inpainting) else operator
        assert torch.equal(update(x0_hat[s], 0.7, Measurement(y[s], own, 0.05))[0], together[b])


@pytest.mark.parametrize("operator", [random_mask(1, 6, 5), asymmetric("replicate"), HDRClip()])
@pytest.mark.parametrize("tolerance", [0.0, 1e-4])
def test_a_consistent_prediction_is_kept_and_its_neighbours_move(draw, operator, tolerance):
    x0_hat = draw(2, 3, 6, 5)
    y = operator(x0_hat)
    y[1] = 0.3
    x0_y = ConjugateGradient(tolerance=tolerance)(x0_hat, 1.0, Measurement(y, operator, 0.05))
    assert torch.equal(x0_y[0], x0_hat[0])
    assert torch.isfinite(x0_y).all() and (x0_y[1] - x0_hat[1]).abs().max() > 0.1


def test_residuals_too_small_to_square_are_left_alone(draw):
    y = draw(1, 3, 2, 2)
    for scale in torch.logspace(-22, -20, 41):  # float32 squares of these are zero or denormal
        x0_y = fletcher_reeves(Downscale(4), scale * y, torch.zeros(1, 3, 8, 8), 1e-7, 10)
        assert x0_y.abs().max() < 1e-15, scale


class Counted(Operator):
    """Counts forward and adjoint passes."""

    def __init__(self, operator: Operator) -> None:
        self.operator, self.forwards, self.adjoints = operator, 0, 0

    def forward(self, x):
        self.forwards += 1
        return self.operator(x)

    def vjp(self, x):
        y, pullback = super().vjp(x)

        def counted(u):
            self.adjoints += 1
            return pullback(u)

        return y, counted


def test_a_linear_operator_is_passed_twice_a_step_and_once_more(draw):
    for j, extra in [(1, 0), (2, 0), (10, 0), (10, 1)]:  # the preconditioner takes one of each more
        operator, x0_hat = Counted(asymmetric("replicate")), draw(2, 3, 9, 7)
        update = ConjugateGradient(j, tolerance=0.0, preconditioned=extra > 0)
        update(x0_hat, 1.0, Measurement(draw(2, 3, 9, 7), operator, 0.05))
        checked = 1  # the first pullback of an operator is held against its forward pass
        passes = (operator.forwards - checked, operator.adjoints - checked)
        assert passes == (j + 1 + extra, j + extra)


@pytest.mark.parametrize("preconditioned", [False, True])
def test_tolerance_stops_each_sample_by_itself(draw, preconditioned):
    x0_hat = draw(2, 1, 12, 16)
    y = Downscale(2)(x0_hat)
    y[0] += 0.7  # nearly one eigenvector: few steps are enough
    y[1] += 0.7 * draw(1, 6, 8)
    update, passes, alone = ConjugateGradient(100, 1e-3, preconditioned), [], []
    A = dense(Downscale(2), (1, 12, 16))
    p = A.T @ A.sum(1) + 0.05**2 if preconditioned else 1.0
    for b in range(2):
        operator, start, target = Counted(Downscale(2)), x0_hat[b : b + 1], y[b : b + 1]
        alone.append(update(start, 1.0, Measurement(target, operator, 0.05)))
        passes.append(operator.forwards)
        z, start = alone[b].double().flatten(), start.double().flatten()
        first = A.T @ (A @ start - target.double().flatten())
        last = A.T @ (A @ z - target.double().flatten()) + 0.05**2 * (z - start)
        assert (last**2 / p).sum() <= 1e-6 * (first**2 / p).sum()
    assert passes[0] + 3 <= passes[1] < 60
    assert torch.equal(update(x0_hat, 1.0, Measurement(y, operator, 0.05)), torch.cat(alone))


def test_nonlinear_steps_lower_the_objective(draw):
    x0_hat, operator, rho = 0.6 * draw(3, 3, 37, 31), HDRClip(2.0), 0.05**2 / 0.5**2
    y = operator(0.6 * draw(3, 3, 37, 31)) + 0.05 * draw(3, 3, 37, 31)

    def objective(z):
        terms = (y - operator(z)).square() + rho * (z - x0_hat).square()
        return 0.5 * terms.flatten(1).sum(1)

    values = [objective(fletcher_reeves(operator, y, x0_hat, rho, J)) for J in (1, 10)]
    assert (values[0] < 0.9 * objective(x0_hat)).all() and (values[1] < values[0]).all()


def test_comfyuis_mode_and_autocast_change_nothing(draw):
    x0_hat, operator = draw(2, 3, 16, 12), Downscale(2)
    m = Measurement(draw(2, 3, 8, 6), operator, 0.05)
    plain = ConjugateGradient()(x0_hat, 1.0, m)
    with torch.inference_mode(), left():
        assert torch.equal(ConjugateGradient()(x0_hat, 1.0, m), plain)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ConjugateGradient()(x0_hat, 1.0, m), plain)


@pytest.mark.parametrize("prior_std", [0.0, 0.5])
def test_the_belief_is_the_posterior_of_a_gaussian_prior(draw, prior_std):
    sigma, s = 0.8, 0.1
    r = (1 / (1 / sigma**2 + (1 / prior_std**2 if prior_std else 0))) ** 0.5
    assert belief_std(sigma, prior_std) == pytest.approx(r)
    x0_hat, y = draw(1, 1, 6, 5), draw(1, 1, 6, 5)
    see_all = Inpainting(torch.ones(1, 1, 6, 5))
    x0_y = ConjugateGradient(prior_std=prior_std)(x0_hat, sigma, Measurement(y, see_all, s))
    assert torch.allclose(x0_y, (y / s**2 + x0_hat / r**2) / (1 / s**2 + 1 / r**2), atol=1e-5)


X, M = torch.ones(1, 1, 6, 5), Measurement(torch.zeros(1, 1, 6, 5), asymmetric("replicate"), 0.1)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: ConjugateGradient(iterations=0), ValueError, r"iterations is 0; give a number in"),
        (lambda: ConjugateGradient(tolerance=-1.0), ValueError, r"tolerance is -1\.0; give a"),
        (lambda: ConjugateGradient(solver="lu"), ValueError, r"solver is 'lu'; choose one of conj"),
        (lambda: ConjugateGradient(prior_std=-0.1), ValueError, r"prior_std is -0\.1; give a"),
        (lambda: ConjugateGradient(sample=True)(X, 1.0, M), ValueError, r"needs a noise source"),
        (lambda: Langevin(learning_rate=-1.0), ValueError, r"learning_rate is -1\.0; give a"),
        (lambda: Langevin(likelihood="none"), ValueError, r"choose one of official, measured\."),
        (lambda: Langevin()(X, 1.0, M), ValueError, r"Langevin dynamics need a noise source; pass"),
        (
            lambda: Langevin(300, learning_rate=0.1)(
                X, 1.0, M, Surroundings(1.0, 0.5, torch.zeros_like)
            ),
            FloatingPointError,
            r"diverged at noise level 1 with learning_rate 0\.1; lower it",
        ),
        (lambda: LikelihoodGradient(zeta=-1.0), ValueError, r"zeta is -1\.0; give a number in"),
        (lambda: LikelihoodGradient()(X, 1.0, M), ValueError, r"needs a backward pass through the"),
    ],
)
def test_refusals(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
