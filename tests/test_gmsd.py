"""Gradient magnitude similarity deviation, against its formula in plain loops."""

import pytest
import torch

from undegrade.pipelines.metrics import gmsd


def by_hand(x: torch.Tensor, truth: torch.Tensor) -> float:
    """One picture each, (3, H, W) in [-1, 1], H and W even."""
    lengths = []
    for picture in (x, truth):
        r, g, b = 127.5 * (picture.double() + 1)
        luma = 0.299 * r + 0.587 * g + 0.114 * b
        luma = (luma[::2, ::2] + luma[1::2, ::2] + luma[::2, 1::2] + luma[1::2, 1::2]) / 4
        height, width = luma.shape
        length = torch.zeros_like(luma)

        def at(v, u, luma=luma, height=height, width=width):
            return luma[min(max(v, 0), height - 1), min(max(u, 0), width - 1)]

        for v in range(height):
            for u in range(width):
                across = sum(at(v + i, u + 1) - at(v + i, u - 1) for i in (-1, 0, 1)) / 3
                down = sum(at(v + 1, u + i) - at(v - 1, u + i) for i in (-1, 0, 1)) / 3
                length[v, u] = (across**2 + down**2) ** 0.5
        lengths.append(length)
    a, b = lengths
    return ((2 * a * b + 170) / (a * a + b * b + 170)).std(correction=0).item()


def test_it_is_the_formula(draw):
    x, truth = 0.4 * draw(2, 3, 12, 10), 0.4 * draw(2, 3, 12, 10).clamp(-2, 2)
    found = gmsd(x, truth)
    for b in range(2):
        assert found[b].item() == pytest.approx(by_hand(x[b].clamp(-1, 1), truth[b]), abs=1e-5)
        alone = gmsd(x[b : b + 1], truth[b : b + 1])
        assert torch.allclose(alone, found[b : b + 1], atol=1e-6)


def test_equal_pictures_score_0_and_more_blur_scores_worse(draw):
    truth = 0.4 * draw(1, 3, 32, 32).clamp(-2, 2)
    weak, strong = (torch.nn.functional.avg_pool2d(truth, n, 1, n // 2) for n in (3, 5))
    assert gmsd(truth, truth).item() == 0
    assert 0 < gmsd(weak, truth) < gmsd(strong, truth)
