"""Tiles: splitting, weighting and blending, the only implementation in the project.

A canvas, picture or latent, is covered by overlapping square tiles: starts every `tile - overlap`,
those that would run over the edge shifted back to it. Tiles are put together again by a normalised
weighted mean,

    canvas(p) = sum_k w_k(p) tile_k(p) / sum_k w_k(p),

with a weight that falls from the middle of a tile to its edge, so that no edge shows. Weights are
products of a column and a row profile, and so are their sums over a grid; tiles are therefore
joined to strips and strips to the canvas, each time along one side.

References: StableSR (arXiv 2305.07015) for the Gaussian of variance 0.01, Mixture of Diffusers
(arXiv 2302.02412) before it; InvSR (arXiv 2412.09013) for OpenCV's Gaussian.

Where we depart from their code, and why:
- StableSR's weight is centred half a pixel off along one side; ours is symmetric.
- They sum weighted tiles and weights and divide. We keep a running mean, m <- m + a_k (tile_k - m)
  with a_k = w_k / (w_1 + .. + w_k) computed in float64: weights of 1e-11 in a corner lose nothing,
  and equal tiles give the canvas back bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from ..models.sending import sent
from .constants import Constants
from .operators.canvas import pad_reflect

STABLESR_VARIANCE = 0.01  # of the Gaussian weight, in tile sides squared


@dataclass(frozen=True)
class TileGrid(Constants):
    """Where the tiles of a canvas lie. All numbers are pixels of the canvas, picture or latent.

    height, width: of the canvas, 1 or more. tile: side of a tile, 1 or more. overlap: what
    neighbours share, 0 <= overlap < tile; the last tile, shifted back to the edge, shares more.
    rows, columns: the tiles' starts, ascending. A side shorter than a tile has one start, 0, and is
    continued to the tile's end by half-sample reflection, back and forth as often as it takes.

    With overlap = tile / 2 these are InvSR's starts. Raises `ValueError` for other numbers.
    """

    height: int
    width: int
    tile: int
    overlap: int
    rows: tuple[int, ...] = field(init=False)
    columns: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"The canvas is {self.width}x{self.height}; give at least 1x1 pixels.")
        check_tile(self.tile, self.overlap)
        stride = self.tile - self.overlap
        object.__setattr__(self, "rows", starts(self.height, self.tile, stride))
        object.__setattr__(self, "columns", starts(self.width, self.tile, stride))

    @property
    def count(self) -> int:
        """T, the tiles of one sample."""
        return len(self.rows) * len(self.columns)

    def scaled(self, factor: int) -> TileGrid:
        """The same tiles on a canvas `factor` times as large: those of a latent in the picture."""
        sides = (self.height, self.width, self.tile, self.overlap)
        return TileGrid(*(factor * side for side in sides))

    def windows(self, canvas: Tensor) -> Iterator[Tensor]:
        """The tiles of `cut` one after the other, (C, tile, tile) each, without copying them.

        canvas: (B, C, height, width). Raises `ValueError` for another size.
        """
        if canvas.ndim != 4 or canvas.shape[-2:] != (self.height, self.width):
            raise ValueError(
                f"The canvas has shape {tuple(canvas.shape)}; this grid is for "
                f"(B, C, {self.height}, {self.width})."
            )
        side = self.tile
        if min(self.height, self.width) < side:
            canvas = pad_reflect(canvas, max(self.height, side), max(self.width, side))
        return (
            sample[:, top : top + side, left : left + side]
            for sample in canvas
            for top in self.rows
            for left in self.columns
        )

    def cut(self, canvas: Tensor) -> Tensor:
        """(B, C, height, width) -> (B T, C, tile, tile): sample 0's tiles first, row by row."""
        return torch.stack(list(self.windows(canvas)))

    def stitch(self, tiles: Tensor, weight: Tensor | None = None) -> Tensor:
        """(B T, C, tile, tile) in the order of `cut` -> (B, C, height, width), the weighted mean.

        weight: (tile,), see `join`. `stitch(cut(canvas))` is the canvas bit for bit.
        Raises `ValueError` for tiles of another size or number.
        """
        side = self.tile
        if tiles.ndim != 4 or tiles.shape[-2:] != (side, side) or len(tiles) % self.count:
            raise ValueError(
                f"The tiles have shape {tuple(tiles.shape)}; this grid is for {self.count} tiles "
                f"of {side}x{side} per sample, (B {self.count}, C, {side}, {side})."
            )
        stream = iter(tiles)
        return torch.stack([self.join(stream, weight) for _ in range(len(tiles) // self.count)])

    def join(self, tiles: Iterator[Tensor], weight: Tensor | None = None) -> Tensor:
        """The next T tiles of a stream, (C, tile, tile) each -> one sample's (C, height, width).

        Tiles are taken one at a time and let go once blended: memory is that of two canvases and a
        strip. weight: (tile,) positive, the profile of a tile along both sides (a pixel's weight is
        weight[row] * weight[column]); None is `gaussian_weight(tile)`.
        """
        weight = gaussian_weight(self.tile) if weight is None else weight
        if weight.shape != (self.tile,) or not bool((weight > 0).all()):
            raise ValueError(
                f"The weight has shape {tuple(weight.shape)}; give {self.tile} positive numbers, "
                "the weight along one side of a tile."
            )
        across = len(self.columns)
        strips = (blend(islice(tiles, across), self.columns, weight, -1) for _ in self.rows)
        return blend(strips, self.rows, weight, -2)[:, : self.height, : self.width]


def check_tile(tile: int, overlap: int) -> None:
    """Raise `ValueError` unless 0 <= overlap < tile."""
    if tile < 1:
        raise ValueError(f"The tile is {tile} pixels; give a side of 1 or more.")
    if not 0 <= overlap < tile:
        raise ValueError(
            f"The overlap is {overlap} pixels and the tile {tile}; give an overlap from 0 to "
            f"{tile - 1}."
        )


def starts(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Where tiles begin along a side: every `stride`, never past length - tile, each once."""
    last = max(length - tile, 0)
    return tuple(sorted({min(start, last) for start in range(0, length, stride)}))


def blend(pieces: Iterable[Tensor], begins: tuple[int, ...], weight: Tensor, dim: int) -> Tensor:
    """Pieces of equal length that begin at `begins` along `dim`, joined by their weighted mean.

    What lies before the next piece's beginning is finished: it is copied, and the piece let go.
    Nothing is changed in place, for torch.func's sake.
    """
    length = len(weight)
    mass = torch.zeros(begins[-1] + length, dtype=torch.float64)  # w_1 + .. + w_k so far
    profile = weight.detach().cpu().double()
    done: list[Tensor] = []
    tail, tail_begin = None, 0  # the mean so far, from the last piece's beginning on
    for begin, piece in zip(begins, pieces, strict=True):
        mass[begin : begin + length] += profile
        if tail is None:
            tail = piece
            continue
        shared = tail_begin + length - begin
        done.append(tail.narrow(dim, 0, length - shared).clone())
        if shared:
            share = (profile / mass[begin : begin + length])[:shared]
            share = sent(share, piece)
            share = share if dim == -1 else share[:, None]
            before = tail.narrow(dim, length - shared, shared)
            mean = torch.lerp(before, piece.narrow(dim, 0, shared), share)
            tail = torch.cat([mean, piece.narrow(dim, shared, length - shared)], dim)
        else:
            tail = piece
        tail_begin = begin
    assert tail is not None
    return torch.cat([*done, tail], dim)


def gaussian_weight(tile: int, variance: float = STABLESR_VARIANCE) -> Tensor:
    """StableSR's weight along one side of a tile, (tile,) float64, symmetric, largest 1.

    w(p) = exp(-((p - (tile - 1) / 2) / tile)^2 / (2 variance)); the factor 1 / (2 pi variance) of
    the paper's code cancels. variance: in tile sides squared; 0.01 gives 4e-6 at an edge.
    """
    distance = (torch.arange(tile, dtype=torch.float64) - (tile - 1) / 2) / tile
    return torch.exp(-distance.square() / (2 * variance))


def opencv_gaussian_weight(tile: int) -> Tensor:
    """InvSR's weight along one side of a tile, (tile,) float64, for an even tile.

    OpenCV's Gaussian kernel of tile + 1 taps, which sum to one, with the standard deviation
    0.3 ((tile - 1) / 2 - 1) + 0.8 that it derives from `tile` taps, without its first tap: the
    largest weight is that of pixel tile / 2 - 1. Raises `ValueError` for an odd tile.
    """
    if tile < 2 or tile % 2:
        raise ValueError(f"The tile is {tile} pixels; InvSR's weight is for an even side.")
    std = 0.3 * ((tile - 1) * 0.5 - 1) + 0.8
    taps = torch.arange(tile + 1, dtype=torch.float64) - tile / 2
    kernel = torch.exp(-taps.square() / (2 * std * std))
    return (kernel / kernel.sum())[1:]
