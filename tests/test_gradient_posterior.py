"""The search for a blur kernel by the posterior of gradients."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from test_blind import quick, shapes, walk  # noqa: F401  (a fixture)

from undegrade.pipelines.blind.blur_estimate import work
from undegrade.pipelines.blind.blur_options import BlurOptions
from undegrade.pipelines.blind.gradient_posterior import GradientPosterior
from undegrade.pipelines.blind.halves import agreements
from undegrade.pipelines.blind.kernel_estimation import (
    FINE,
    LAST,
    Found,
    annealed,
    levels,
    search,
)
from undegrade.pipelines.blind.kernel_kinds import Shape
from undegrade.pipelines.blind.kernel_update import correlation
from undegrade.pipelines.blind.seen import unreached
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur


def blurred(x, k, noise=0.01):
    y = KernelBlur(weights=k)(x)
    return y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))


def level_of(y, side=9):
    clipped = torch.zeros_like(y[:, :1])
    return levels(y, clipped, 1 - clipped, side)[-1]


def nothing():
    pass


def test_the_expectation_is_the_posterior_of_known_variances():
    """Against the dense Gaussian: the mean solves the same system."""
    y, k = blurred(shapes(20), walk(5)), walk(5)
    for white in (False, True):
        posterior = GradientPosterior(y, torch.ones_like(y[:, :1]), 5, white)
        before = posterior.first(k)
        belief = posterior.expected(k, before, 0.01, solves=300)
        x, otf = belief.x, posterior.transfer(k)
        slope = posterior.filtered(posterior.weighted(posterior.filtered(x, otf) - posterior.g),
                                   otf.conj()) / 0.01 + x / before.v
        assert float(slope.abs().max()) < 1e-2 * float((x / before.v).abs().max())
        torch.testing.assert_close(belief.v, x.square() + belief.c + 1e-8)
        assert float(belief.c.min()) > 0 and bool((belief.c <= before.v * 1.0001).all())


def test_the_kernels_step_minimises_misfit_and_spread():
    """No kernel nearby is better, by the sum that it says it minimises."""
    y, k = blurred(shapes(48), walk(5)), walk(5)
    posterior = GradientPosterior(y, torch.ones_like(y[:, :1]), 5)
    belief = posterior.expected(k, posterior.first(k), 1e-3)
    found = k
    for _ in range(20):
        found = posterior.path(found, belief)
    spread = posterior.share * belief.c.sum()

    def cost(k):
        otf = posterior.transfer(k) * posterior.pen
        e = posterior.filtered(belief.x, otf) - posterior.g
        drawn = torch.fft.irfft2(otf, s=posterior.size)
        return float((e * posterior.weighted(e)).sum() + spread * drawn.square().sum())

    g = torch.Generator().manual_seed(3)
    for _ in range(10):
        near = (found + 0.02 * torch.rand(5, 5, generator=g)).clamp(min=0)
        assert cost(found) < cost(near / near.sum())


def test_the_true_kernel_surprises_least_and_stays():
    x, k = shapes(80), F.pad(walk(), (1, 1, 1, 1))
    level = level_of(blurred(x, k), 11)
    judge, variance = level.posterior(white=True), level.variance(0.01)
    point = torch.zeros(11, 11)
    point[5, 5] = 1
    others = (point, k.flip(0), Shape("out of focus", 3.0).kernel(11))
    true = judge.surprise(k, variance)
    assert all(true + 0.05 < judge.surprise(other, variance) for other in others)
    assert correlation(annealed(judge, k, variance, LAST, nothing), k) > 0.97


def test_halves_that_are_blurred_differently_disagree():
    k = walk()
    left, right = (blurred(shapes(48, seed), k) for seed in (0, 5))
    other = blurred(shapes(48, 5), k.flip(0).transpose(0, 1))
    alike = [agreements(Found(k, level_of(torch.cat([left, y], -1))), 0.01, nothing)[0]
             for y in (right, other)]
    assert alike[0] > 0.8 and alike[1] < 0.3


def test_lights_do_not_spoil_the_search():
    """Clipped lamps and the trails that they leave are no convolution of what is seen."""
    x, k = shapes(72), walk()
    x[..., 30:33, 40:43] = 9.0  # several times as bright as white
    y = blurred(x, k).clamp(-1, 1)
    clipped = (y.amax(1, keepdim=True) >= 0.96).float()
    kernels = []
    for left_out in (clipped, 0 * clipped):
        level = levels(y, left_out, unreached(left_out, 9), 9)[-1]
        start, few = Shape("Gaussian", 1.5).kernel(9), replace(FINE, rounds=16)
        variance = level.variance(0.01)
        kernels.append(annealed(level.posterior(), start, variance, few, nothing))
    assert correlation(kernels[0], k) > correlation(kernels[1], k) + 0.1


@pytest.mark.usefixtures("quick")
def test_steps_are_counted():
    count = []
    y = blurred(shapes(32), walk(5))
    pyramid = levels(y, 0 * y[:, :1], torch.ones_like(y[:, :1]), 7)
    search(pyramid, 0.01, per_sample_noise([0]), Shape("Gaussian", 1.0), lambda k: 0.0,
           lambda: count.append(1))
    assert 0 < len(count) <= work(BlurOptions(kernel_size=7))


@pytest.mark.usefixtures("quick")
def test_of_the_ends_that_one_is_taken_which_the_prior_finds_to_explain_most():
    y = blurred(shapes(32), walk(5))
    pyramid = levels(y, 0 * y[:, :1], torch.ones_like(y[:, :1]), 7)
    ends = []

    def unexplained(k):
        ends.append(k)
        return (0.5, 0.3, 0.4, 0.6)[len(ends) - 1]

    found = search(pyramid, 0.01, per_sample_noise([0]), Shape("Gaussian", 1.0), unexplained,
                   nothing)
    assert len(ends) == 4 and torch.equal(found.kernel, ends[1]) and found.shape is None
