"""Progressive feature injection: how strongly a region is held to the degraded picture.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752), which modulates the struct features of its
network by the region's gain, f <- alpha f + beta. This is a form without trained weights, for any
prior: the prediction itself is drawn to the degraded picture,

    x0_hat <- x0_hat + strength alpha (what the degraded picture says and x0_hat does not),
    alpha = 1 + 0.15 clip(g^N / tau, -1, 1) in the second half of the timesteps, 1 before,

so that a region that is growing sharper is held more tightly, and one that is losing detail less.
What the degraded picture z_lr says is either

    scale 0:  LP(z_lr - x0_hat), colours and large shapes, LP = `color.low_band`;
    scale s:  z_lr - K x0_hat, K the reduction by s and the bicubic enlargement that made z_lr:
              all that a picture enlarged s times can show, as in ILVR (arXiv 2108.02938).

K is taken from the whole canvas' rows and columns, so that a tile keeps the phase of its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.sending import sent
from ..color import low_band
from ..options import Options, option
from ..step import column
from ..tiling import TileGrid

SWING = 0.15  # k: how much alpha moves


class Injection(Protocol):
    """The place of any form, trained or not."""

    def __call__(
        self, x0_hat: Tensor, z_lr: Tensor, alpha: Tensor, grid: TileGrid, tiles: Sequence[int]
    ) -> Tensor:
        """The prediction held to the degraded picture, sample by sample.

        x0_hat, z_lr: (B, C, tile, tile). alpha: (B,) float64. tiles: which tiles of `grid` they
        are, counted through the batch in the order of `TileGrid.cut`.
        """
        ...


def coefficient(no_reference: float, tau: float, late: bool) -> float:
    """alpha of a region whose no-reference gain per base step is g^N."""
    return 1 + SWING * max(-1.0, min(1.0, no_reference / tau)) if late else 1.0


@dataclass(frozen=True)
class FeatureInjection(Options):
    """The form without trained weights; see this file's head."""

    strength: float = option(
        1.0,
        "How strongly predictions are held to the degraded picture; 0 not at all. Below 1 where "
        "that picture is noisy, 0.1 to 0.3 with scale 0.",
        min=0.0,
        max=1.0,
        step=0.05,
    )
    scale: int = option(
        4,
        "How many times the picture was enlarged before it was cut: predictions then keep all it "
        "shows at its own size. 0 holds colours and large shapes only.",
        min=0,
        max=16,
    )

    def __call__(
        self, x0_hat: Tensor, z_lr: Tensor, alpha: Tensor, grid: TileGrid, tiles: Sequence[int]
    ) -> Tensor:
        """See `Injection`. Strength 0 gives x0_hat back."""
        if not self.strength:
            return x0_hat
        pull = low_band(z_lr - x0_hat)
        if self.scale:
            seen = [self._shown(x, grid, k) for x, k in zip(x0_hat, tiles, strict=True)]
            pull = z_lr - torch.stack(seen)
        return x0_hat + self.strength * column(alpha, x0_hat) * pull

    def _shown(self, x0_hat: Tensor, grid: TileGrid, tile: int) -> Tensor:
        """K x0_hat of one tile, (C, tile, tile)."""
        row, place = divmod(tile % grid.count, len(grid.columns))
        down = self._rows(grid, grid.height, grid.rows[row], x0_hat)
        across = self._rows(grid, grid.width, grid.columns[place], x0_hat)
        return down @ x0_hat @ across.T

    def _rows(self, grid: TileGrid, length: int, start: int, like: Tensor) -> Tensor:
        """`enlargement` where the tile lies, brought there once a run."""
        known = (length, start, grid.tile, self.scale)
        return grid.constant(
            (*known, like.dtype, like.device),
            lambda: sent(enlargement(*known), like),
        )


@lru_cache(maxsize=256)
def enlargement(length: int, start: int, tile: int, scale: int) -> Tensor:
    """Rows of K along one side of a canvas that fall into a tile, (tile, tile), each summing to 1.

    Reduced by `scale` with the antialiased bicubic kernel, then enlarged bicubically. A canvas
    shorter than the tile counts as long as the tile.
    """
    length = max(length, tile)
    small = max(1, round(length / scale))
    columns = torch.eye(length, tile).roll(start, 0)[None, None]  # those of the identity
    reduced = F.interpolate(columns, size=(small, tile), mode="bicubic", antialias=True)
    whole = F.interpolate(reduced, size=(length, tile), mode="bicubic")[0, 0]
    window = whole[start : start + tile]
    return window / window.sum(1, keepdim=True)
