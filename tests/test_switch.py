"""When a sampler turns deterministic: thresholds, the noise floor, one decision per sample."""

import pytest
import torch

from undegrade.models.prior import GaussianPrior
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.subdaps.switch import (
    FixedThreshold,
    NoiseFloor,
    Updated,
    never,
)
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.update import Surroundings

OFFICIAL_THRESHOLDS = {
    "inpainting": 1e-5,
    "super-resolution": 1e-5,
    "HDR": 1e-5,
    "Gaussian deblurring": 1e-4,
    "nonlinear deblurring": 1e-4,
    "motion deblurring": 3e-4,
}
SEE_ALL = Inpainting(torch.ones(1, 1, 37, 31))


def updated(x0_hat, x0_y, y=None, sigma=0.2, update=None, noise_level=0.1, progress=0.0):
    measurement = Measurement(x0_hat if y is None else y, SEE_ALL, noise_level)
    around = Surroundings(sigma, sigma, per_sample_noise([1] * len(x0_hat)), progress)
    return Updated(x0_hat, x0_y, sigma, measurement, update or ConjugateGradient(), around)


def test_move_is_a_mean_per_element_and_per_sample(draw):
    x0_hat = draw(3, 3, 37, 31)
    offsets = torch.tensor([0.1, 0.2, 0.0])
    x0_y = x0_hat + offsets[:, None, None, None]
    assert updated(x0_hat, x0_y).move.tolist() == pytest.approx([0.01, 0.04, 0.0], rel=1e-4)


def test_fixed_threshold_is_strict_and_per_sample():
    x0_hat = torch.zeros(3, 1, 37, 31)
    x0_y = torch.stack([torch.full((1, 37, 31), v) for v in (0.25, 0.5, 0.75)])
    assert FixedThreshold(0.25)(updated(x0_hat, x0_y)).tolist() == [True, False, False]
    assert FixedThreshold(0.26)(updated(x0_hat, x0_y)).tolist() == [True, True, False]
    assert FixedThreshold(0.0)(updated(x0_hat, x0_hat)).tolist() == [False] * 3
    assert never(updated(x0_hat, x0_hat)).tolist() == [False] * 3


def test_official_table_is_allowed():
    assert all(FixedThreshold(tau).threshold == tau for tau in OFFICIAL_THRESHOLDS.values())


@pytest.mark.parametrize("ratio", [1.0, 4.0])
@pytest.mark.parametrize("update", [ConjugateGradient(), ConjugateGradient(solver="exact")])
def test_noise_floor_is_the_move_that_noise_alone_causes(draw, ratio, update):
    x0_hat, sigma, noise_level = draw(1, 3, 37, 31), 0.2, 0.1
    n = per_sample_noise([0])(x0_hat)  # the stream that the rule draws
    edge = noise_level * (ratio * n.square().mean().item()) ** 0.5
    for factor, expected in [(0.999, True), (1.001, False)]:
        y = x0_hat + factor * edge  # a constant residual of that size
        x0_y = update(x0_hat, sigma, Measurement(y, SEE_ALL, noise_level))
        asked = updated(x0_hat, x0_y, y, sigma, update, noise_level)
        assert NoiseFloor(ratio)(asked).tolist() == [expected]


def test_noise_floor_decides_per_sample(draw):
    x0_hat, near = draw(6, 3, 37, 31), torch.tensor([0.999, 0.999, 1.001, 1.001, 0.999, 1.001])
    edge = 0.1 * per_sample_noise([0])(x0_hat[:1]).square().mean().item() ** 0.5
    y = x0_hat + edge * near[:, None, None, None]
    x0_y = ConjugateGradient()(x0_hat, 0.2, Measurement(y, SEE_ALL, 0.1))
    assert torch.equal(NoiseFloor(1.0)(updated(x0_hat, x0_y, y)), near < 1)
    for b in range(6):
        s = slice(b, b + 1)
        assert NoiseFloor(1.0)(updated(x0_hat[s], x0_y[s], y[s])).item() == (near[b] < 1).item()


@pytest.mark.parametrize("update", [ConjugateGradient(), ConjugateGradient(tolerance=0.0)])
def test_noise_floor_turns_late_for_a_good_prior_and_never_for_a_hopeless_one(draw, update):
    x0 = 0.5 * draw(2, 3, 24, 20)
    m = simulate(x0, GaussianBlur(std=0.4), 0.05, per_sample_noise([3, 4]))
    options = SamplerOptions(steps=20, sigma_min=0.005)

    def turned(prior) -> list[int]:
        noise = per_sample_noise([1, 2])
        schedule = schedule_for(prior, options)
        run = restore(prior, m, schedule, update, noise, switch=NoiseFloor())
        return [step.index for step in run if step.deterministic.any()]

    good = turned(GaussianPrior(std=0.5))
    assert good and min(good) >= 10
    assert turned(GaussianPrior(mean=5.0, std=0.01)) == []


def test_noise_floor_does_not_touch_the_runs_noise(draw):
    m = Measurement(draw(1, 3, 37, 31), SEE_ALL, 0.1)
    prior, options = GaussianPrior(), SamplerOptions(steps=4)
    schedule = schedule_for(prior, options)

    def last(switch):
        noise = per_sample_noise([1])
        return list(restore(prior, m, schedule, Langevin(3), noise, switch=switch))[-1].x0_y

    assert torch.equal(last(never), last(NoiseFloor(0.0)))


def test_refusals(draw):
    x0_hat = draw(1, 3, 37, 31)
    with pytest.raises(ValueError, match=r"FixedThreshold\.threshold is -1\.0; give a number in"):
        FixedThreshold(-1.0)
    with pytest.raises(ValueError, match=r"NoiseFloor\.ratio is nan; give a finite number"):
        NoiseFloor(float("nan"))
    with pytest.raises(ValueError, match=r"adaptive switch repeats .*; choose a fixed threshold\."):
        NoiseFloor()(updated(x0_hat, x0_hat, update=LikelihoodGradient()))


@pytest.mark.parametrize("progress", [0.0, 0.5, 0.98])
def test_noise_floor_takes_langevins_steps_of_this_moment(draw, progress):
    """They shrink with the run. A prediction that is right moves as noise alone would have it."""
    x0_hat, sigma, noise_level = draw(1, 3, 37, 31), 0.2, 0.1
    update = Langevin(iterations=5)
    y = x0_hat + noise_level * per_sample_noise([7])(x0_hat)
    seen = updated(x0_hat, x0_hat, y, sigma, update, noise_level, progress)
    x0_y = update(x0_hat, sigma, seen.measurement, seen.around)
    seen = updated(x0_hat, x0_y, y, sigma, update, noise_level, progress)
    assert [NoiseFloor(ratio)(seen).item() for ratio in (0.7, 1.5)] == [False, True]
