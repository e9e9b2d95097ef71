"""Complementary noise: the state's noise is white, and as strong as the network is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from dense_twins import asymmetric, dense

from undegrade.models.codec import IDENTITY
from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.schedule import Schedule
from undegrade.pipelines.subdaps import complement
from undegrade.pipelines.subdaps.options import SamplerOptions
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.update import Surroundings

SHAPE, LEVEL, NEXT = (1, 6, 8), 0.3, 0.25
CONVERGED = ConjugateGradient(200, 1e-6)
OPERATORS = {
    "blur": asymmetric("replicate"),
    "downscale": Downscale(2),
    "mask": Inpainting((torch.arange(48).reshape(1, 1, 6, 8) % 3 > 0).float()),
}


def matrix(linear, shape) -> torch.Tensor:
    """The dense matrix of a linear map of (1, *shape), one column per element."""
    basis = torch.eye(shape[0] * shape[1] * shape[2])
    return torch.stack([linear(e.reshape(1, *shape)).flatten() for e in basis], dim=1).double()


@pytest.mark.parametrize("name", OPERATORS)
def test_the_drawn_noise_and_the_measurements_own_add_up_to_white(name):
    """sigma_next^2 (2 W - 1)^2 + noise_level^2 M M^T = sigma_next^2, M the response to y."""
    operator = OPERATORS[name]
    seen = operator(torch.zeros(1, *SHAPE)).shape[1:]
    m = Measurement(torch.ones(1, *seen), operator, LEVEL)
    around = Surroundings(2 * NEXT, NEXT, per_sample_noise([0]))

    def drawn(n):
        zero = torch.zeros_like(n)
        return complement.updated(zero, n, 2 * NEXT, CONVERGED, m, around)[1]

    def answered(y):
        return CONVERGED(torch.zeros(1, *SHAPE), 2 * NEXT, replace(m, y=y), around)

    with torch.inference_mode(), left():
        a = dense(operator, SHAPE)
        reflection, response = matrix(drawn, SHAPE), matrix(answered, seen)
    unit = torch.eye(48, dtype=torch.float64)
    rho = (LEVEL / (2 * NEXT)) ** 2
    w = rho * torch.linalg.inv(a.T @ a + rho * unit)
    assert torch.allclose(reflection, 2 * w - unit, atol=1e-5)
    covariance = NEXT**2 * reflection @ reflection.T + LEVEL**2 * response @ response.T
    assert torch.allclose(covariance, NEXT**2 * unit, atol=1e-5 * NEXT**2 * 48)


class Oracle:
    """A prior that always knows the truth."""

    codec = IDENTITY

    def __init__(self, truth):
        self.truth, self.spec, self.told = truth, PriorSpec(), []

    def denoise(self, x, sigma, factor=1):
        self.told.append((x.clone(), float(sigma[0])))
        return self.truth.expand_as(x)


@pytest.mark.parametrize("complementary", [True, False])
def test_states_around_the_truth_are_as_noisy_as_the_network_is_told(complementary):
    """With a perfect prediction all that is wrong with a state is its noise."""
    truth = torch.zeros(1, 3, 64, 64)
    prior = Oracle(truth)
    operator = asymmetric("circular")
    noise = per_sample_noise([1, 2, 3])
    y = 0.2 * per_sample_noise([4, 5, 6])(torch.zeros(3, 3, 64, 64))
    m = Measurement(y, operator, 0.2)
    schedule = Schedule(torch.tensor([0.5, 0.4, 0.3, 0.0]), (1, 1, 1))
    with torch.inference_mode(), left():
        list(restore(prior, m, schedule, CONVERGED, noise, complementary=complementary))
    for x, sigma in prior.told[1:]:
        strength = float(x.square().mean().sqrt()) / sigma
        power = torch.fft.fft2(x / sigma, norm="ortho").abs().square().mean((0, 1))
        blocks = power.unfold(0, 16, 16).unfold(1, 16, 16).mean((2, 3))
        if complementary:
            assert strength == pytest.approx(1, abs=0.01)
            assert (blocks - 1).abs().max() < 0.15  # 768 values a block: 3.6 % of spread
        else:
            assert strength > 1.1 and blocks.max() > 1.3


def run(operator, update, complementary, seeds=(1, 2, 3)):
    """States of a short run on pictures of 16 x 12."""
    x0 = per_sample_noise([9 + s for s in seeds])(torch.zeros(len(seeds), 1, 16, 12)) / 4
    m = Measurement(operator(x0), operator, 0.1)
    prior = Oracle(torch.full((1, 1, 16, 12), 0.1))
    schedule = Schedule(torch.tensor([0.5, 0.4, 0.3, 0.0]), (1, 1, 1))
    noise = per_sample_noise(list(seeds))
    steps = restore(prior, m, schedule, update, noise, complementary=complementary)
    return torch.stack([step.x for step in steps])


@pytest.mark.parametrize(
    ("operator", "update"),
    [
        (HDRClip(), ConjugateGradient()),
        (Downscale(2), ConjugateGradient(sample=True)),
        (Downscale(2), Langevin(3)),
        (Downscale(2), LikelihoodGradient(0.3)),
    ],
    ids=["nonlinear", "draw", "Langevin", "DPS"],
)
def test_elsewhere_it_changes_nothing(operator, update):
    assert torch.equal(run(operator, update, True), run(operator, update, False))


def test_a_sample_is_the_same_alone_and_in_a_batch():
    together = run(Downscale(2), ConjugateGradient(), True)
    alone = run(Downscale(2), ConjugateGradient(), True, seeds=(2,))
    assert torch.equal(together[:, 1:2], alone)
    assert not torch.equal(together, run(Downscale(2), ConjugateGradient(), False))


def test_one_update_of_both_is_two_updates():
    """Together where all pictures have one degradation, apart where each has its own."""
    x0_hat, n = (per_sample_noise([s, s + 1])(torch.zeros(2, 1, 16, 12)) for s in (1, 5))
    own = Inpainting((per_sample_noise([7, 8])(torch.zeros(2, 1, 16, 12)) > 0).float())
    for operator in (Downscale(2), own):
        m, around = Measurement(operator(x0_hat), operator, 0.1), Surroundings(1.0, 0.2, n)
        x0_y, drawn = complement.updated(n, x0_hat, 0.4, CONVERGED, m, around)
        silence = replace(m, y=torch.zeros_like(m.y))
        assert torch.equal(x0_y, CONVERGED(n, 0.4, m))
        assert torch.equal(drawn, 2 * CONVERGED(x0_hat, 0.4, silence) - x0_hat)


@pytest.mark.parametrize(("renoise", "complementary", "share"), [
    (0.0, True, 0.5), (0.0, False, 0.5), (0.5, False, 1.0), (0.5, True, None),
])
def test_how_far_a_prediction_is_believed(draw, renoise, complementary, share):
    """r = sigma, 2 sigma_next beside complementary noise, and 0.5 sigma where none is drawn."""
    asked = []

    class Asked(ConjugateGradient):
        def __call__(self, x0_hat, sigma, measurement, around=None):
            asked.append((sigma, len(x0_hat)))
            return super().__call__(x0_hat, sigma, measurement, around)

    y, options = draw(1, 3, 8, 8), SamplerOptions(renoise=renoise, complementary=complementary)
    m = Measurement(y, Downscale(2), 0.1)
    schedule = Schedule(torch.tensor([2.0, 0.5, 0.1, 0.0]), (1, 1, 1))
    list(restore(GaussianPrior(), m, schedule, Asked(), per_sample_noise([1]),
                 renoise=renoise, belief=options.belief, complementary=complementary))
    expected = [1.0, 0.2] if share is None else [share * 2.0, share * 0.5]
    assert [r for r, _ in asked] == pytest.approx(expected)
    assert {count for _, count in asked} == {2 if share is None else 1}, "the noise's update too"
