"""Intervals that hold the truth as often as they say, for answers that come alone or in pairs."""

from __future__ import annotations

import pytest
import torch
from node_calls import call

from undegrade.pipelines.posterior_statistics import half_width, paired, student, summarised

NODE = "UndegradePosteriorStatistics"


def test_students_quantiles():
    known = {(95, 7): 2.3646, (80, 7): 1.4149, (95, 1): 12.7062, (50, 3): 0.7649, (99.9, 1): 636.62}
    for (percentage, freedom), t in known.items():
        assert student(percentage, freedom) == pytest.approx(t, rel=1e-4)


def answers(count: int, mirrored: float, size: int = 40000) -> tuple[torch.Tensor, torch.Tensor]:
    """(truth, answers (K, size)), all from N(0.3, 0.1^2), with correlation -mirrored in a pair."""
    generator = torch.Generator().manual_seed(4)
    n = torch.randn(count + 1, size, generator=generator)
    n[2::2] = -mirrored * n[1::2][: len(n[2::2])] + (1 - mirrored**2) ** 0.5 * n[2::2]
    return 0.3 + 0.1 * n[0], 0.3 + 0.1 * n[1:]


@pytest.mark.parametrize(
    ("count", "mirrored"), [(2, 0.0), (3, 0.0), (8, 0.0), (8, 0.8), (8, 1.0), (4, 0.9), (16, 1.0)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(count, mirrored):
    truth, drawn = answers(count, mirrored)
    if count > 2:
        assert paired(drawn) == pytest.approx(mirrored, abs=0.02)
    for percentage in (50, 80, 95):
        inside = (truth - drawn.mean(0)).abs() <= half_width(drawn, percentage)
        assert float(inside.float().mean()) * 100 == pytest.approx(percentage, abs=2)


def test_what_is_said_of_a_picture():
    """Left half: all answers agree on an edge. Right half: they disagree on a flat plane."""
    groups = torch.full((1, 8, 32, 64, 3), 0.5)
    groups[:, :, :, 8:16] = 0.9
    noise = 0.1 * torch.randn(8, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    groups[0, :, :, 32:] += noise
    found = summarised(groups, 90.0, 0.05, 1.0)
    assert found.certain[0, :, :32].all() and found.certain[0, :, 32:].float().mean() < 0.05
    assert found.invented[0] == pytest.approx(0.5, abs=0.08)
    assert found.within[0] == pytest.approx(0.135, abs=0.02)  # 80 % of the right half's errors
    assert torch.equal(found.lower[..., :32, :], found.upper[..., :32, :])
    twice = summarised(groups, 90.0, 0.05, 2.0)
    assert twice.within[0] == pytest.approx(2 * found.within[0])


def test_the_node_says_it_and_keeps_what_it_gave():
    images = torch.rand(8, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    before = images.clone()
    mean, uncertainty, _, lower, upper, certain, report = call(NODE, images=images, samples=4)
    assert mean.shape == lower.shape == upper.shape == (2, 16, 16, 3)
    assert uncertainty.shape == certain.shape == (2, 16, 16) and certain.max() == 0
    assert (lower <= mean).all() and (mean <= upper).all() and upper.max() <= 1
    first, second = report.splitlines()
    assert first.startswith("Picture 0: 95 % of the pixels are expected within +-") and second
    assert "mostly invented" in first and "measured factor" not in report
    said = call(NODE, images=images, calibration=1.5, percentage=80.0)
    assert "Spreads were multiplied by 1.5, a measured factor." in said[-1]
    assert said[2] == pytest.approx(call(NODE, images=images)[2]), "mean_std is as it was"
    assert torch.equal(images, before)
