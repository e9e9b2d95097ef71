"""The estimator without weights, and spans."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from exact_regions import TEXTURE, kinds, scene

from undegrade.models.codec import Identity
from undegrade.pipelines.adadiffsr.calibration import (
    EVERY_STEP,
    Curves,
    calibrate,
    forecast,
    predicted_evaluations,
)
from undegrade.pipelines.adadiffsr.information_gain import (
    Evaluation,
    Spans,
    WeightFree,
    bits,
    block_means,
    change,
    closed_form,
    detail,
    laplacian,
)
from undegrade.pipelines.adadiffsr.regions import RegionOptions
from undegrade.pipelines.adadiffsr.report import report, work_map
from undegrade.pipelines.adadiffsr.sampler import RegionRun
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.schedule import karras

SPANS = Spans(0.5, 0.2, 0.1, (1.0, 0.5))


def seen(x0_hat, previous, sigma=0.5, before=1.0, following=0.4, steps=1.0):
    numbers = [torch.full((len(x0_hat),), float(v), dtype=torch.float64)
               for v in (sigma, before, following, steps)]
    return Evaluation(x0_hat, x0_hat, previous, x0_hat, *numbers)


def test_gains_by_their_formulas(draw):
    a, b = draw(2, 3, 37, 31), draw(2, 3, 37, 31)
    gain = WeightFree(SPANS)(seen(a, b, steps=3.0))
    for k in range(2):
        square = ((a - b)[k] ** 2).mean(0).double()
        blocks = [square[i:i + 8, j:j + 8].mean() for i in range(0, 37, 8) for j in range(0, 31, 8)]
        rho = torch.stack(blocks).quantile(0.97).sqrt()
        expected = rho / math.log(2) * math.log(0.5 / 0.4) / 0.5
        assert gain.full_reference[k].item() == pytest.approx(expected.item(), rel=1e-5)
        sharper = (detail(a[k:k + 1]) - detail(b[k:k + 1])).item() / 0.2 / 3
        assert gain.no_reference[k].item() == pytest.approx(sharper, rel=1e-9)


def test_detail_is_bits_of_the_laplacian(draw):
    x = draw(1, 2, 16, 24) * 0.1
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]) / math.sqrt(20)
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate").transpose(0, 1)
    by_convolution = F.conv2d(padded, kernel[None, None]).transpose(0, 1)
    torch.testing.assert_close(laplacian(x), by_convolution)
    energy = by_convolution.square().mean(1).unflatten(1, (2, 8)).unflatten(3, (3, 8))
    expected = torch.log2(1 + energy.mean((2, 4)) / 0.0025) / math.log2(1 + 1 / 0.0025)
    torch.testing.assert_close(bits(x), expected.flatten(1))
    assert detail(torch.full((1, 1, 16, 16), 0.7)).item() == 0


def test_a_first_evaluation_has_no_gain(draw):
    x = draw(2, 1, 16, 16)
    gain = WeightFree(SPANS)(seen(x, x, before=0.5, steps=0.0))
    assert gain.full_reference.tolist() == [0, 0] and gain.no_reference.tolist() == [0, 0]


def test_a_long_interval_shows_the_gain_of_a_short_one(draw):
    """x0_hat moving evenly in log sigma: the rate does not depend on how far was skipped."""
    direction, x = draw(1, 1, 16, 16), draw(1, 1, 16, 16)
    rates = []
    for before in (0.6, 0.8, 2.0):
        moved = x + direction * math.log(before / 0.5)
        gains = WeightFree(SPANS)(seen(x, moved, before=before))
        rates.append(gains.full_reference.item())
    assert rates == pytest.approx([rates[0]] * 3, rel=1e-5)


def test_a_small_island_counts_as_a_whole_region_of_it(draw):
    before = torch.zeros(2, 1, 64, 64)
    after = before.clone()
    after[0] = draw(1, 64, 64)
    after[1, :, 24:40, 8:24] = after[0, :, 24:40, 8:24]
    whole, island = change(after, before).tolist()
    assert island > 0.75 * whole > 0
    assert (after[1] ** 2).mean().sqrt() < 0.3 * whole, "the mean would miss it"


def test_rows_do_not_depend_on_their_batch(draw):
    a, b = draw(5, 3, 37, 31), draw(5, 3, 37, 31)
    together = WeightFree(SPANS)(seen(a, b))
    for k in range(5):
        alone = WeightFree(SPANS)(seen(a[k:k + 1], b[k:k + 1]))
        assert alone.full_reference[0] == together.full_reference[k]
        assert alone.no_reference[0] == together.no_reference[k]


def test_blocks_smaller_than_eight():
    assert block_means(torch.ones(1, 1, 3, 20)).tolist() == [[1.0] * 3]


# Calibration


def calibrated(steps):
    denoise, task = scene(steps=steps)
    return denoise, task, calibrate(denoise, task, RegionOptions(noise=1.0), batch=4)


def test_spans_are_those_of_the_exact_trajectory():
    _, task, curves = calibrated(40)
    x = task.z_lr[1:2].double() + 5 * task.noise[1:2]
    exact = [x * 0.5 * (0.25 + s * s) ** -0.5 * 0.5 / (0.25 + 25) ** 0.5
             for s in task.sigmas.tolist()]
    moved = sum(change(b, a).item() for a, b in itertools.pairwise(exact))
    assert curves.change[TEXTURE].sum().item() == pytest.approx(moved, rel=0.02)
    assert curves.spans.full_reference == pytest.approx(moved, rel=0.05)


def test_spans_hold_on_every_grid_and_the_closed_form_is_near():
    found = {steps: calibrated(steps)[2].spans for steps in (20, 40, 80)}
    ways = [spans.full_reference for spans in found.values()]
    assert max(ways) < 1.03 * min(ways)
    for steps, spans in found.items():
        assert spans.loss == pytest.approx(math.log(5 / 0.02) / 2 / steps, rel=0.15)
        assert spans.sigmas == tuple(karras(steps, 5.0, 0.02).tolist())


def test_the_loss_is_read_at_the_step_that_follows():
    """h = ln 2, then 2 ln 2: tile k loses (2 ln 2)^2 (0.3 k / ln 2) / 2, however it ends."""
    change = torch.arange(1, 9).double()[:, None] * torch.tensor([0.0, 0.3, 0.7]).double()
    sigmas = torch.tensor([8.0, 4.0, 1.0]).double()
    spans = Curves(change, torch.zeros(8, 3).double(), sigmas, 1.0).spans
    way = torch.quantile(torch.arange(1, 9).double(), 0.9).item()
    assert spans.full_reference == pytest.approx(way)
    assert spans.loss == pytest.approx(0.6 * math.log(2) * 7 / way), "the lower of the worst two"


def test_the_forecast_is_near_what_a_run_takes():
    denoise, task, curves = calibrated(40)
    for quality, expected in forecast(curves, StepPolicy()).items():
        policy = StepPolicy(quality=quality, spans=curves.spans)
        made = RegionRun(denoise, task, policy, WeightFree(curves.spans), curves.spans,
                         RegionOptions(noise=1.0))  # fmt: skip
        assert len(list(made)) == len(made.calls)
        mean = sum(made.evaluations) / len(made.evaluations)
        assert mean == pytest.approx(expected, rel=0.12), quality
    assert set(predicted_evaluations(curves, EVERY_STEP)) == {40}


def test_a_calibration_on_nothing():
    _, task = scene(steps=10)
    curves = calibrate(lambda x, sigma, tiles: torch.zeros_like(x), task, RegionOptions())
    with pytest.raises(ValueError, match="give photographs with detail"):
        _ = curves.spans


def test_closed_form_for_pixels_and_latents():
    sigmas = karras(10, 1.0, 0.1)
    pixels, latents = closed_form(sigmas, Identity.factor), closed_form(sigmas, 8)
    assert pixels.loss == latents.loss == pytest.approx(math.log(10) / 20)
    assert pixels.full_reference < latents.full_reference and not pixels.measured


def test_the_report_and_the_map_count_evaluations():
    denoise, task = scene(steps=20)
    spans = closed_form(task.sigmas, 8)
    made = RegionRun(denoise, task, StepPolicy(), WeightFree(spans), spans, RegionOptions())
    calls = len(list(made))
    counts = made.evaluations
    text = report(made)
    assert f"{min(counts)} / {sum(counts) / 6:.1f} / {max(counts)} (min / mean / max)" in text
    assert f"network calls: {calls}, {sum(counts) / calls / 8:.0%} full" in text
    assert "not calibrated" in text and "steps 15 to 19: growth" in text
    shown = work_map(made)
    assert shown.shape == (1, 1, 128, 192)
    for k, _ in enumerate(kinds(6)):
        row, column = divmod(k, 3)
        cell = shown[0, 0, 64 * row : 64 * row + 64, 64 * column : 64 * column + 64]
        torch.testing.assert_close(cell, torch.full_like(cell, counts[k] / 20))
