"""The codebook: classes, intervals, hysteresis, exits and refusals."""

import math
from dataclasses import replace

import pytest
import torch
from exact_regions import TEXTURE, run, scene

from undegrade.pipelines.adadiffsr.information_gain import Gain, Spans, detail
from undegrade.pipelines.adadiffsr.step_policy import INTERVALS, History, Place, StepPolicy

N = 200
SPANS = Spans(1.0, 1.0, 0.02, tuple(reversed(range(1, N + 1))))
EARLY = Place(sigma=5.0, log_step=0.05, late=False, steps=1)
LATE = Place(sigma=0.2, log_step=0.05, late=True, steps=1)
TAU = 1 / N


def settled(**known) -> History:
    """A region long on its way, at the longest interval, so that it slows down at once."""
    return History(**{"evaluations": 10, "skip": 4, **known})


def skip(policy, rise, sharper, at, history=None):
    return policy.decide(history or settled(), rise, sharper, at, SPANS).skip


@pytest.mark.parametrize(
    ("at", "rise", "sharper", "kind", "multiple"),
    [
        (EARLY, 2.1, 0, "growth", 1),
        (EARLY, 1.1, 0, "growth", 2),
        (EARLY, 0.6, 0, "stable", 3),
        (EARLY, 0.4, 0, "stable", 4),
        (EARLY, 0.4, 9, "stable", 4),  # sharpness is not valid in the first half
        (LATE, 1.1, 1.1, "growth", 1),
        (LATE, 0.9, 1.1, "growth", 2),
        (LATE, 1.1, 0.9, "stable", 3),
        (LATE, 0.9, -0.9, "stable", 4),
        (LATE, 0.9, -1.1, "saturated", 1),
    ],
)
def test_published_classes_and_intervals(at, rise, sharper, kind, multiple):
    """Gains in units of tau = 5e-3 on 200 steps."""
    policy = StepPolicy(mode="paper")
    verdict = policy.decide(settled(), rise * TAU, sharper * TAU, at, SPANS)
    assert (verdict.kind, verdict.skip, verdict.leave) == (kind, multiple, False)
    assert INTERVALS[verdict.skip - 1] == 5 * multiple and policy.threshold == 5e-3 == TAU


def test_the_threshold_is_in_units_of_a_mean_step_on_any_grid():
    spans = replace(SPANS, sigmas=SPANS.sigmas[:50])
    policy = StepPolicy(mode="paper")
    assert policy.decide(settled(), 1.1 / 50, 0.0, EARLY, spans).skip == 2
    twice = StepPolicy(mode="paper", threshold=1e-2)
    assert twice.decide(settled(), 1.1 / 50, 0.0, EARLY, spans).skip == 3


@pytest.mark.parametrize("quality", ["high", "balanced", "fast", "draft"])
def test_the_error_rule(quality):
    """m = floor(q (L / N) / l), l = h g / 2."""
    q = {"high": 0.8, "balanced": 1.6, "fast": 3.2, "draft": 6.4}[quality]
    policy = StepPolicy(quality=quality)
    for m in (0.5, 1.5, 2.5, 3.5, 9.0):
        loss = q * SPANS.loss / N / m
        expected = max(1, min(4, math.floor(m)))
        assert skip(policy, 2 * loss / EARLY.log_step, 0.0, EARLY) == expected
        assert skip(policy, 2 * loss / LATE.log_step, 1.0, LATE) == min(expected, 2), "growth"
    assert skip(policy, 0.0, 0.0, EARLY) == 4


def test_max_skip_and_no_skips():
    assert skip(StepPolicy(max_skip=2), 0.0, 0.0, EARLY) == 2
    assert skip(StepPolicy(mode="every step"), 0.0, 0.0, EARLY, History()) == 1


def test_slower_at_once_faster_by_one():
    error, paper = StepPolicy(), StepPolicy(mode="paper")
    region = History()
    assert [skip(error, 0.0, 0.0, EARLY, region) for _ in range(7)] == [1, 1, 2, 3, 4, 4, 4]
    assert skip(error, 1.0, 0.0, EARLY, region) == 1
    region = History()
    seen = [skip(paper, 0.0, 0.0, EARLY, region) for _ in range(9)]
    assert seen == [1, 1, 1, 2, 2, 3, 3, 4, 4], "two equal votes each"
    assert skip(paper, 1.5 * TAU, 0.0, EARLY, region) == 2


def leaves(policy, gains, at=LATE):
    """At which evaluation a region leaves, and which was its best; None for never."""
    region, best = settled(skip=1), None
    for k, gain in enumerate(gains):
        verdict = policy.decide(region, 0.0, gain * TAU, at, SPANS)
        best = k if verdict.best else best
        if verdict.leave:
            return k, best
    return None, best


def test_saturated_regions_leave_with_their_best():
    policy = StepPolicy(early_exit=True)
    assert leaves(policy, [2, 2, -1.5, -1.5, -1.5]) == (3, 1)
    assert leaves(policy, [2, 2, -5, 2, -5, 2]) == (None, 1), "patience: two in a row"
    assert leaves(policy, [2, 2, -1.01, -0.9, -1.01, -0.9])[0] is None
    assert leaves(policy, [2, -1.0001, -1.0001, -1.0001])[0] == 2, "more than 2 tau below the best"
    assert leaves(policy, [2, 2, -5, -5], replace(LATE, sigma=0.36))[0] is None
    assert leaves(policy, [2, 2, -5, -5], replace(LATE, late=False))[0] is None
    assert leaves(StepPolicy(), [2, 2, -5, -5, -5])[0] is None


@pytest.mark.parametrize(("lost", "leaves"), [(1.9, False), (2.1, True)])
def test_a_region_leaves_when_it_has_lost_more_than_two_thresholds(lost, leaves):
    """After its second falling evaluation; the best was 0."""
    policy, falls = StepPolicy(mode="paper", early_exit=True), math.atanh(-1.05 * TAU)
    region = settled(falling=1, quality=-(lost - 1.05) * TAU, best=0.0)
    assert policy.decide(region, 0.0, falls, LATE, SPANS).leave is leaves
    first = settled(falling=0, quality=-(lost - 1.05) * TAU, best=0.0)
    assert not policy.decide(first, 0.0, falls, LATE, SPANS).leave


def test_quality_falls_over_long_intervals_too():
    """The gain is per base step: what is lost is the gain times the way."""
    at = replace(LATE, steps=4)
    assert leaves(StepPolicy(early_exit=True), [1, -1.01, -1.01], at)[0] == 2
    region = settled()
    StepPolicy().decide(region, 0.0, 0.5 * TAU, at, SPANS)
    assert region.quality == pytest.approx(2 * TAU, rel=1e-4)


def test_a_denoiser_that_smooths_its_last_steps_is_left_early():
    """Detail is taken away below a noise level of 0.1; who leaves keeps it."""
    exact, task = scene(steps=30)

    seen = {k: [] for k in range(6)}

    def smoothing(x, sigma, tiles):
        keep = (sigma / 0.1).clamp(0.3, 1)[:, None, None, None]
        x0_hat = keep * exact(x, sigma, tiles)
        for k, row in zip(tiles, x0_hat, strict=True):
            seen[k].append(row)
        return x0_hat

    kept = run(smoothing, task, StepPolicy(early_exit=True))
    best = {k: max(rows, key=lambda row: detail(row[None]).item()) for k, rows in seen.items()}
    lost = run(smoothing, task, StepPolicy())
    for k in range(TEXTURE, 6, 3):
        assert kept.regions[k].left == "saturated" and lost.regions[k].left == "end"
        assert kept.evaluations[k] < lost.evaluations[k]
        assert torch.equal(kept.regions[k].x0_hat, best[k])
        sharp = detail(kept.regions[k].x0_hat[None]).item()
        assert sharp > 1.5 * detail(lost.regions[k].x0_hat[None]).item()


def test_the_gain_of_a_regressor_is_used():
    """Any `InformationGain` steers the run."""
    denoise, task = scene(steps=20)

    def nothing(seen):
        zero = torch.zeros(len(seen.sigma), dtype=torch.float64)
        return Gain(zero, zero)

    def much(seen):
        one = torch.ones(len(seen.sigma), dtype=torch.float64)
        return Gain(one, 0 * one)

    assert set(run(denoise, task, gain=much).evaluations) == {20}
    # nodes 0, 1, 2, 4, 7, 11, 15, 19
    assert set(run(denoise, task, gain=nothing).evaluations) == {8}


def test_a_growing_region_is_held_more_tightly_in_the_second_half():
    """alpha is that of the evaluation before, 1 in the first half and at first."""
    denoise, task = scene(steps=20)
    held = []

    def growing(seen):
        one = torch.ones(len(seen.sigma), dtype=torch.float64)
        return Gain(one, one)

    def injection(x0_hat, z_lr, alpha, grid, tiles):
        held.extend(zip(alpha.tolist(), tiles, strict=True))
        return x0_hat

    made = run(denoise, task, gain=growing, injection=injection)
    visits = [(tile, node) for call in made.calls for tile, node, _, _ in call.evaluated]
    for (alpha, tile), (k, node) in zip(held, visits, strict=True):
        late = task.sigmas[node] <= task.half
        assert tile == k and alpha == pytest.approx(1.15 if late else 1.0)
    assert {round(alpha, 2) for alpha, _ in held} == {1.0, 1.15}


# Refusals


def test_too_few_steps_to_skip():
    denoise, task = scene(steps=9)
    with pytest.raises(ValueError, match="has 9 steps, too few to skip any; give 10 or more"):
        run(denoise, task)
    assert set(run(denoise, task, StepPolicy(mode="every step")).evaluations) == {9}
    started = StepPolicy(max_skip=1, adaptive_start=True, early_exit=False)
    assert min(run(denoise, task, started).evaluations) <= 9


def test_a_prediction_that_is_not_finite():
    _, task = scene(steps=10)
    with pytest.raises(FloatingPointError, match="NaN or infinite values at noise level 5"):
        run(lambda x, sigma, tiles: x * float("nan"), task)


def test_spans_of_another_base_grid():
    _, task = scene(steps=20)
    policy = StepPolicy(spans=replace(SPANS, sigmas=SPANS.sigmas[:20]))
    with pytest.raises(ValueError, match=r"calibrated for 20 steps from noise level 200 .* has 20"):
        policy.check(tuple(task.sigmas.tolist()))


def test_options_outside_their_intervals():
    for wrong in ({"mode": "fast"}, {"quality": "best"}, {"threshold": 0.0}, {"max_skip": 5}):
        with pytest.raises(ValueError, match=f"StepPolicy.{next(iter(wrong))} is"):
            StepPolicy(**wrong)
