"""The trajectory corrector: official numbers, exactness, one start per sample."""

import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from undegrade.models.noise_table import vp_sigmas
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.schedule import THIRDS, karras, round_to, spread_factors
from undegrade.pipelines.step import Step
from undegrade.pipelines.subdaps.corrector import COEFFICIENTS, Corrector, weights
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.subdaps.switch import FixedThreshold
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

GOLDEN = Path(__file__).parent / "golden"
CASES = ("inpainting", "super_resolution", "motion_deblur", "super_resolution_never_deterministic")


def step(sigma, x, x0_y, deterministic=False, grid=None, index=0, factor=1, size=(64, 64)):
    flags = torch.as_tensor(deterministic).expand(x.shape[0])
    return Step(index, 100, sigma, grid or sigma, factor, x, x0_y, x0_y, flags, size)


@pytest.mark.parametrize("case", CASES)
def test_official_runs(case):
    with safe_open(GOLDEN / f"subdaps_corrector_{case}.safetensors", "pt") as file:
        meta, saved = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    table = vp_sigmas(torch.float32)
    grid = karras(100, table[-1].item(), table[0].item())
    sigmas, factors = round_to(grid, table), spread_factors(100, (4, 2, 1), THIRDS)
    first = int(meta["first_deterministic_index"])
    corrector = Corrector("official")
    for i in range(first, 100):
        x0_y, sigma = saved[f"x0_y.{i}"], sigmas[i].item()
        x = torch.full_like(x0_y, math.nan)  # only the first state may be read
        if i == first:
            x = saved["x_start"] * (1 + sigma**2) ** 0.5  # saved in the paper's scale, alpha x
        flag = torch.tensor([first > 0 and i == first])
        corrector.add(step(sigma, x, x0_y, flag, grid[i].item(), i, factors[i]))
    unclipped = corrector.x_c / (1 + sigmas[99].item() ** 2) ** 0.5
    assert (unclipped - saved["result"]).abs().max() < 1e-5
    assert (corrector.result() - saved["result"].clamp(-1, 1)).abs().max() < 1e-5


def test_consistent_coefficients_solve_the_ode_for_predictions_linear_in_log_sigma(draw):
    x, a, b = (draw(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    sigmas = [3.0, 1.1, 0.9, 0.2]
    corrector = Corrector("consistent")
    for i, sigma in enumerate(sigmas):
        corrector.add(step(sigma, x if i == 0 else x * math.nan, a + b * math.log(sigma), i == 0))
    high, low = sigmas[0], sigmas[-1]
    # d(x / s) / ds = -(a + b log s) / s^2, integrated from high to low
    integral = [(a + b * (math.log(s) + 1)) / s for s in (high, low)]
    expected = low * (x / high + integral[1] - integral[0])
    assert (corrector.x_c - expected).abs().max() < 1e-12


@pytest.mark.parametrize("coefficients", COEFFICIENTS)
def test_a_constant_prediction_keeps_the_noise_direction(draw, coefficients):
    x0, n = draw(1, 3, 6, 5), draw(1, 3, 6, 5)
    corrector = Corrector(coefficients)
    for sigma in (5.0, 2.0, 0.4, 0.1):
        corrector.add(step(sigma, x0 + sigma * n, x0))
    assert (corrector.x_c - (x0 + 0.1 * n)).abs().max() < 1e-6


def test_coefficients_agree_without_rounding_and_where_levels_coincide(draw):
    x = draw(1, 1, 2, 2)
    for now, following in [(3.0, 1.0), (0.02, 0.01), (0.5, 0.5)]:
        pair = step(now, x, x), step(following, x, x)
        assert weights(*pair, "official") == pytest.approx(weights(*pair, "consistent"), abs=1e-12)
    assert weights(*pair, "official") == (1.0, 0.0, 0.0)
    rounded = step(0.01, x, x, grid=0.0123), step(0.01, x, x, grid=0.01)
    r, i1, i2 = weights(*rounded, "official")
    # the published run's last step, where rounding makes an extrapolation of it
    assert (r, i1, i2) == (1.0, pytest.approx(0.187, abs=1e-3), pytest.approx(0.097, abs=1e-3))


def test_each_sample_starts_at_its_own_first_deterministic_step(draw):
    flags = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()  # sample, step
    states, predictions = draw(4, 3, 1, 6, 5), draw(4, 3, 1, 6, 5)
    sigmas = (4.0, 1.0, 0.5, 0.1)

    def run(samples: list[int]) -> torch.Tensor:
        corrector = Corrector()
        for i, sigma in enumerate(sigmas):
            x, x0_y = states[i, samples], predictions[i, samples]
            corrector.add(step(sigma, x, x0_y, flags[samples, i], index=i))
        return corrector.x_c

    together, turned = run([0, 1, 2]), run([2, 0, 1])
    for b in range(3):
        assert torch.equal(run([b])[0], together[b])
        assert torch.equal(turned[(b + 1) % 3], together[b])
    late = Corrector()  # sample 0 again, fed from its own start only
    for i in (1, 2, 3):
        late.add(step(sigmas[i], states[i, :1], predictions[i, :1], i == 1, index=i))
    assert torch.equal(late.x_c[0], together[0])
    never = Corrector()  # sample 2 starts at step 0
    for i in range(4):
        never.add(step(sigmas[i], states[i, 2:], predictions[i, 2:], index=i))
    assert torch.equal(never.x_c[0], together[2])


def test_result_is_cropped_scaled_and_clipped(draw):
    x = 3 * draw(2, 3, 8, 8)
    corrector = Corrector()
    corrector.add(step(1.0, x, x, size=(7, 5)))
    expected = (x / 2**0.5).clamp(-1, 1)[..., :7, :5]
    assert corrector.result().shape == (2, 3, 7, 5)
    assert torch.allclose(corrector.result(), expected, atol=1e-7)


def test_growing_repeats_pixels(draw):
    x, x0, x0_next = draw(1, 1, 2, 3), draw(1, 1, 2, 3), draw(1, 1, 4, 6)
    corrector = Corrector("consistent")
    corrector.add(step(2.0, x, x0, factor=2))
    corrector.add(step(1.0, x0_next * math.nan, x0_next, factor=1))
    r, i1, i2 = 0.5, 0.5, 0.5 - 0.5 / math.log(2)
    big_x, big_x0 = (t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (x, x0))
    expected = r * big_x + i1 * x0_next + i2 * (x0_next - big_x0)
    assert (corrector.x_c - expected).abs().max() < 1e-6


def test_on_a_run_with_a_canvas_and_three_resolutions(draw):
    operator = Inpainting(torch.ones(1, 1, 37, 31))
    measurement = Measurement(0.3 * draw(2, 3, 37, 31), operator, 0.05)
    prior = MultiResolutionPrior(GaussianPrior())
    run = restore(
        prior,
        measurement,
        schedule_for(prior, SamplerOptions(steps=9)),
        ConjugateGradient(),
        per_sample_noise([1, 2]),
        switch=FixedThreshold(10.0),
    )
    corrector, steps = Corrector(), list(run)
    assert [bool(each.deterministic.all()) for each in steps] == [False] * 7 + [True, False]
    assert [each.factor for each in steps] == [4, 4, 4, 4, 2, 2, 2, 1, 1]
    for each in steps:
        corrector.add(each)
    result = corrector.result()
    assert result.shape == (2, 3, 37, 31)
    a, b = steps[-2:]  # the recurrence starts at step 7, so that one step of it is all there is
    r, i1, i2 = weights(a, b, "official")
    x = (r * a.x + i1 * b.x0_y + i2 * (b.x0_y - a.x0_y)) / (1 + b.sigma**2) ** 0.5
    assert torch.allclose(result, x[..., :37, :31].clamp(-1, 1), atol=1e-6)


def test_refusals():
    with pytest.raises(ValueError, match=r"Coefficients are 'paper'; choose one of \('official'"):
        Corrector("paper")
    with pytest.raises(ValueError, match=r"has seen no step; run the sampler first\."):
        Corrector().result()
