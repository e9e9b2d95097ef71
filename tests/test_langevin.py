"""Langevin dynamics and the likelihood gradient, as updates of one prediction."""

import pytest
import torch
from dense_twins import asymmetric, dense, dense_minimum

from undegrade.models.prior import GaussianPrior
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.schedule import Schedule
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.update import Surroundings


def step_shares(A) -> torch.Tensor:
    """1 / max(1, A^T A 1): the share of the learning rate that each pixel gets."""
    return 1 / (A.T @ A.sum(1)).clamp(min=1)


def test_the_border_has_pixels_that_count_more_than_once():
    assert step_shares(dense(asymmetric("replicate"), (1, 5, 6))).min() < 0.9


@pytest.mark.parametrize(("likelihood", "s"), [("official", 0.01 / 2**0.5), ("measured", 0.2)])
@pytest.mark.parametrize("iterations", [1, 30, 3000])
def test_langevin_without_noise_descends_to_the_dense_minimum(draw, likelihood, s, iterations):
    operator, x0_hat, r = asymmetric("replicate"), draw(2, 1, 5, 6), 0.4
    m = Measurement(draw(2, 1, 5, 6), operator, 0.2)
    A = dense(operator, (1, 5, 6))
    P = A.T @ A / s**2 + torch.eye(30, dtype=torch.float64) / r**2
    lr = 0.9 / torch.linalg.matrix_norm(P, 2).item()
    update = Langevin(iterations, learning_rate=lr, likelihood=likelihood)
    z = update(x0_hat, r, m, Surroundings(0.4, 0.1, torch.zeros_like))
    minimum = dense_minimum(A, m.y, x0_hat, s**2 / r**2)
    step = torch.eye(30, dtype=torch.float64) - lr * step_shares(A)[:, None] * P
    way = torch.linalg.matrix_power(step, iterations)
    expected = minimum + ((x0_hat - minimum).flatten(1) @ way.T).reshape(x0_hat.shape)
    assert (z - expected).abs().max() < 1e-5 * minimum.abs().max()


def test_langevin_step_size_and_noise(draw):
    x0_hat, m = draw(2, 1, 6, 5), Measurement(draw(2, 1, 6, 5), asymmetric("replicate"), 0.3)
    update = Langevin(1, learning_rate=1e-3, final_ratio=0.1, likelihood="measured")
    for progress, lr in [(0.0, 1e-3), (0.5, 5.5e-4), (1.0, 1e-4)]:
        z = update(x0_hat, 0.5, m, Surroundings(0.5, 0.1, per_sample_noise([1, 2]), progress))
        A = dense(m.operator, (1, 6, 5))
        score = (m.y.double().flatten(1) - x0_hat.double().flatten(1) @ A.T) @ A / 0.3**2
        n = per_sample_noise([1, 2])(x0_hat)
        lr = lr * step_shares(A).reshape(1, 1, 6, 5)
        expected = x0_hat + lr * score.reshape(x0_hat.shape) + (2 * lr).sqrt() * n
        assert (z - expected).abs().max() < 1e-6


def test_likelihood_gradient_leaves_the_prediction_where_it_cannot_act(draw):
    x0_hat, m = draw(1, 1, 6, 5), Measurement(draw(1, 1, 6, 5), asymmetric("replicate"), 0.3)
    through = Surroundings(
        1.0, 0.5, torch.zeros_like, pullback=lambda u: u, changes_resolution=True)
    assert torch.equal(LikelihoodGradient()(x0_hat, 1.0, m, through), x0_hat)
    same_level = Surroundings(1.0, 1.0, torch.zeros_like, pullback=lambda u: u)
    assert torch.equal(LikelihoodGradient()(x0_hat, 1.0, m, same_level), x0_hat)


class Probe:
    """An update that remembers what the sampler tells it."""

    through_network = ancestral = proximal = False

    def __init__(self) -> None:
        self.told = []

    def __call__(self, x0_hat, sigma, measurement, around=None):
        self.told.append((sigma, around.sigma_next, around.progress, around.changes_resolution))
        assert around.pullback is None and around.noise(x0_hat).shape == x0_hat.shape
        return x0_hat


def test_the_sampler_tells_an_update_where_it_stands(draw):
    m, probe = Measurement(draw(2, 1, 6, 4), asymmetric("replicate"), 0.1), Probe()
    schedule = Schedule(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0]), (2, 2, 1, 1))
    list(restore(GaussianPrior(), m, schedule, probe, per_sample_noise([1, 2])))
    expected = [(4.0, 3.0, 0.0, False), (3.0, 2.0, 0.25, True), (2.0, 1.0, 0.5, False)]
    assert probe.told == expected
