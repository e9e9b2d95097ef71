"""Feature injection without weights: the blur, the enlargement, alpha, and tiles in their phase."""

import pytest
import torch
import torch.nn.functional as F

from undegrade.pipelines.adadiffsr.injection import (
    FeatureInjection,
    coefficient,
    enlargement,
)
from undegrade.pipelines.color import low_band
from undegrade.pipelines.tiling import TileGrid

GRID = TileGrid(48, 72, 32, 12)
ALL = range(GRID.count)


def ones(count):
    return torch.ones(count, dtype=torch.float64)


def enlarged(x, scale=4):
    small = [n // scale for n in x.shape[-2:]]
    reduced = F.interpolate(x, size=small, mode="bicubic", antialias=True)
    return F.interpolate(reduced, size=x.shape[-2:], mode="bicubic")


def test_alpha_follows_the_gain_in_the_second_half():
    assert [coefficient(g, 0.01, True) for g in (0.0, 0.005, 9.0, -9.0)] == pytest.approx(
        [1.0, 1.075, 1.15, 0.85]
    )
    assert coefficient(9.0, 0.01, False) == 1.0


@pytest.mark.parametrize("scale", [0, 4])
def test_strength_zero_is_the_identity(draw, scale):
    tiles, z_lr = draw(GRID.count, 3, 32, 32), draw(GRID.count, 3, 32, 32)
    off = FeatureInjection(strength=0.0, scale=scale)
    assert torch.equal(off(tiles, z_lr, ones(GRID.count), GRID, ALL), tiles)


def test_the_blur_is_five_a_trous_levels(draw):
    x = draw(2, 3, 40, 37)
    expected = x
    for level in range(5):
        taps = torch.zeros(2 * 2**level + 1)
        taps[[0, 2**level, -1]] = torch.tensor([0.25, 0.5, 0.25])
        reach, kernel = 2**level, (taps[:, None] * taps[None])[None, None].expand(3, 1, -1, -1)
        padded = F.pad(expected, (reach,) * 4, mode="replicate")
        expected = F.conv2d(padded, kernel, groups=3)
    torch.testing.assert_close(low_band(x), expected, atol=1e-6, rtol=1e-5)


def test_scale_zero_draws_the_colours(draw):
    x, z_lr, alpha = draw(2, 3, 32, 32), draw(2, 3, 32, 32), torch.tensor([1.0, 0.85]).double()
    held = FeatureInjection(strength=0.3, scale=0)(x, z_lr, alpha, GRID, [0, 1])
    expected = x + 0.3 * alpha.float().view(2, 1, 1, 1) * low_band(z_lr - x)
    torch.testing.assert_close(held, expected)


def test_the_enlargement_is_that_of_the_whole_canvas():
    """Inside a tile, away from its edge, K of the tile is K of the canvas, in the same phase."""
    x = torch.randn(1, 2, 48, 72, generator=torch.Generator().manual_seed(2))
    z_lr = torch.zeros(GRID.count, 2, 32, 32)
    pulled = FeatureInjection()(GRID.cut(x), z_lr, ones(GRID.count), GRID, ALL)
    seen, whole = GRID.cut(x) - pulled, GRID.cut(enlarged(x))
    inner = (..., slice(14, 18), slice(14, 18))
    torch.testing.assert_close(seen[inner], whole[inner], atol=2e-3, rtol=0)
    assert whole[inner].std() > 0.05


def test_a_picture_that_agrees_is_left_alone(draw):
    truth = F.interpolate(draw(1, 3, 12, 18), size=(48, 72), mode="bicubic")
    tile = GRID.cut(truth)
    agreeing = torch.stack([enlargement(48, r, 32, 4) @ t @ enlargement(72, c, 32, 4).T
                            for t, (r, c) in zip(tile, [(r, c) for r in GRID.rows
                                                        for c in GRID.columns], strict=True)])
    held = FeatureInjection()(tile, agreeing, ones(GRID.count), GRID, ALL)
    torch.testing.assert_close(held, tile, atol=1e-5, rtol=0)


def test_rows_of_the_enlargement_sum_to_one_for_any_canvas():
    for length, start, tile in ((48, 16, 32), (37, 5, 32), (5, 0, 8), (3, 0, 8)):
        rows = enlargement(length, start, tile, 4)
        assert rows.shape == (tile, tile)
        torch.testing.assert_close(rows.sum(1), torch.ones(tile))


def test_a_tile_of_a_later_picture_has_the_phase_of_its_place(draw):
    x, z_lr = draw(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    inject = FeatureInjection()
    first, second = (inject(x, z_lr, ones(1), GRID, [k]) for k in (1, 1 + GRID.count))
    assert torch.equal(first, second)
    assert not torch.equal(first, inject(x, z_lr, ones(1), GRID, [2])), "another phase"
