"""Tiles: where they lie, how they are weighted, and that cutting and stitching undo each other."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.tiling import TileGrid, gaussian_weight, opencv_gaussian_weight

OFFICIAL = json.loads((Path(__file__).parent / "golden" / "invsr_tiles.json").read_text())
GRIDS = [  # height, width, tile, overlap
    (37, 31, 16, 4),
    (37, 31, 16, 8),
    (37, 31, 16, 12),
    (37, 31, 16, 0),
    (5, 31, 16, 4),
    (37, 3, 16, 6),
    (1, 1, 16, 4),
    (32, 16, 16, 8),
]
every_grid = pytest.mark.parametrize("numbers", GRIDS, ids=str)
WEIGHTS = {"stablesr": gaussian_weight, "invsr": opencv_gaussian_weight}


def dense_mean(grid: TileGrid, tiles: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """sum w tile / sum w, as the formula stands, in float64."""
    side, samples = grid.tile, len(tiles) // grid.count
    height, width = max(grid.height, side), max(grid.width, side)
    top = torch.zeros(samples, tiles.shape[1], height, width, dtype=torch.float64)
    bottom = top.clone()
    square = weight.double()[:, None] * weight.double()
    for b in range(samples):
        for i, y in enumerate(grid.rows):
            for j, x in enumerate(grid.columns):
                tile = tiles[b * grid.count + i * len(grid.columns) + j].double()
                top[b, :, y : y + side, x : x + side] += square * tile
                bottom[b, :, y : y + side, x : x + side] += square
    return (top / bottom)[..., : grid.height, : grid.width]


@pytest.mark.parametrize("case", OFFICIAL["starts"])
def test_starts_are_the_official_ones(case):
    tile, length = map(int, case.split(","))
    grid = TileGrid(length, 3 * tile, tile, tile // 2)
    assert list(grid.rows) == OFFICIAL["starts"][case]
    assert len(grid.columns) == 5


@pytest.mark.parametrize("tile", [128, 512])
def test_opencv_weight_is_the_official_one(tile):
    official = torch.tensor(OFFICIAL[f"kernel1d_{tile}"], dtype=torch.float64)
    assert (opencv_gaussian_weight(tile) - official).abs().max() < 1e-12


def test_stablesr_weight_in_closed_form():
    for tile in (15, 64):
        weight = gaussian_weight(tile)
        assert torch.equal(weight, weight.flip(0))
        p = torch.arange(tile, dtype=torch.float64)
        closed = torch.exp(-((p - (tile - 1) / 2) ** 2) / (2 * 0.01 * tile**2))
        assert torch.allclose(weight, closed, rtol=1e-12, atol=0)
    assert (gaussian_weight(64)[0] ** 2).item() == pytest.approx(3.0e-11, rel=0.01)  # a corner


@every_grid
def test_tiles_cover_the_canvas_and_stay_on_it(numbers):
    grid = TileGrid(*numbers)
    for starts, length in ((grid.rows, grid.height), (grid.columns, grid.width)):
        assert starts[0] == 0 and list(starts) == sorted(set(starts))
        assert starts[-1] == max(length - grid.tile, 0)
        steps = [b - a for a, b in pairwise(starts)]
        assert all(step == grid.tile - grid.overlap for step in steps[:-1])
        assert all(0 < step <= grid.tile - grid.overlap for step in steps)


@every_grid
@pytest.mark.parametrize("weight", WEIGHTS)
def test_weights_sum_to_one(numbers, weight):
    """The weight of a tile is what it gives to the canvas when it is one and the others zero."""
    grid = TileGrid(*numbers)
    weight = WEIGHTS[weight](grid.tile)
    total = torch.zeros(1, 1, grid.height, grid.width)
    for k in range(grid.count):
        one_hot = torch.zeros(grid.count, 1, grid.tile, grid.tile)
        one_hot[k] = 1
        share = grid.stitch(one_hot, weight)
        assert torch.isfinite(share).all() and share.min() >= 0 and share.max() > 0
        total += share
    assert (total - 1).abs().max() < 1e-6


def test_the_corner_belongs_to_its_only_tile():
    """Its weight is 1e-11 before it is normalised, and 1 after."""
    grid = TileGrid(37, 31, 16, 4)
    tiles = torch.zeros(grid.count, 1, 16, 16)
    tiles[0] = 0.7
    assert grid.stitch(tiles)[0, 0, 0, 0] == tiles[0, 0, 0, 0]


@every_grid
def test_stitching_undoes_cutting_bit_for_bit(numbers, draw):
    grid = TileGrid(*numbers)
    canvas = draw(3, 2, grid.height, grid.width)
    kept = canvas.clone()
    for weight in (None, opencv_gaussian_weight(grid.tile)):
        assert torch.equal(grid.stitch(grid.cut(canvas), weight), canvas)
    assert torch.equal(canvas, kept)


@every_grid
@pytest.mark.parametrize("weight", WEIGHTS)
def test_stitching_is_the_weighted_mean(numbers, weight, draw):
    grid, profile = TileGrid(*numbers), WEIGHTS[weight](numbers[2])
    tiles = draw(3 * grid.count, 2, grid.tile, grid.tile)
    kept = tiles.clone()
    stitched = grid.stitch(tiles, profile)
    assert stitched.dtype == torch.float32
    assert (stitched - dense_mean(grid, tiles, profile)).abs().max() < 1e-6
    assert torch.equal(tiles, kept)
    alone = grid.stitch(tiles[grid.count : 2 * grid.count], profile)
    assert torch.equal(alone[0], stitched[1])
    if weight == "stablesr":
        assert torch.equal(grid.stitch(tiles), stitched)


def test_tiles_come_sample_by_sample_and_row_by_row(draw):
    grid, canvas = TileGrid(37, 31, 16, 4), draw(3, 2, 37, 31)
    assert (grid.rows, grid.columns) == ((0, 12, 21), (0, 12, 15))
    tiles = grid.cut(canvas)
    assert tiles.shape == (27, 2, 16, 16)
    assert torch.equal(tiles[9 + 3 * 1 + 2], canvas[1, :, 12:28, 15:31])


def test_a_canvas_below_one_tile_is_reflected_back_and_forth():
    grid = TileGrid(1, 3, 8, 2)
    (tile,) = grid.cut(torch.tensor([[[[1.0, 2.0, 3.0]]]]))
    row = [1, 2, 3, 3, 2, 1, 1, 2]
    assert tile.tolist() == [[row] * 8]


def test_a_scaled_grid_has_the_same_tiles():
    small = TileGrid(37, 31, 16, 4)
    large = small.scaled(8)
    assert large.rows == tuple(8 * start for start in small.rows)
    assert large.columns == tuple(8 * start for start in small.columns)
    assert (large.height, large.width, large.tile, large.overlap) == (296, 248, 128, 32)


def test_only_one_strip_is_waited_for(draw):
    """A stream's next tile is asked for only when the previous ones are blended."""
    grid, asked = TileGrid(37, 31, 16, 4), []
    tiles = draw(2 * grid.count, 1, 16, 16)

    def stream():
        for k, tile in enumerate(tiles):
            asked.append(k)
            yield tile

    source = stream()
    first = grid.join(source)
    assert asked == list(range(grid.count))
    assert torch.equal(torch.stack([first, grid.join(source)]), grid.stitch(tiles))


def test_derivative_is_the_adjoint(draw):
    grid = TileGrid(37, 5, 16, 4)
    x, u = draw(2, 1, 37, 5), draw(2 * grid.count, 1, 16, 16)
    with torch.inference_mode(), left():
        cut, pull_cut = torch.func.vjp(grid.cut, x)
        stitched, pull_stitch = torch.func.vjp(grid.stitch, u)
        assert torch.isclose((cut * u).sum(), (x * pull_cut(u)[0]).sum(), rtol=1e-4)
        assert torch.isclose((stitched * x).sum(), (u * pull_stitch(x)[0]).sum(), rtol=1e-4)


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((37, 31, 16, 16), "overlap is 16 pixels and the tile 16; give an overlap from 0 to 15"),
        ((37, 31, 16, -1), "overlap is -1"),
        ((37, 31, 0, 0), "tile is 0 pixels"),
        ((0, 31, 16, 4), "canvas is 31x0"),
    ],
)
def test_grids_that_cannot_be(numbers, said):
    with pytest.raises(ValueError, match=said):
        TileGrid(*numbers)


def test_what_does_not_fit_the_grid():
    grid = TileGrid(37, 31, 16, 4)
    with pytest.raises(ValueError, match=r"shape \(1, 3, 31, 37\); this grid is for"):
        grid.cut(torch.zeros(1, 3, 31, 37))
    for shape in ((8, 3, 16, 16), (9, 3, 16, 8), (9, 16, 16)):
        with pytest.raises(ValueError, match="this grid is for 9 tiles of 16x16"):
            grid.stitch(torch.zeros(shape))
    for weight in (torch.ones(15), torch.zeros(16), torch.ones(16, 16)):
        with pytest.raises(ValueError, match="give 16 positive numbers"):
            grid.stitch(torch.zeros(9, 3, 16, 16), weight)
    with pytest.raises(ValueError, match="for an even side"):
        opencv_gaussian_weight(15)
