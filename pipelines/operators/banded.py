"""Products with the matrix of one axis whose rows read only what lies around their place.

A reduction by two reads nine pixels per output, so of a matrix for 2048 pixels 99.6 % are zeros. On
a CPU the rows are taken 32 at a time with the columns that they read: 73 ms in place of 917 for
2048x2048 colour reduced twice, 18 in place of 114 for 1024x1024 (one thread). Narrow matrices, and
all of them on a card, are one product, which is quicker there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 32  # of a block; 64 and 128 are slower
DENSE = 512  # columns up to which one product is as quick


@dataclass(frozen=True, eq=False)
class Banded:
    """M, (m, n), as blocks of its rows.

    blocks: (r, l) each and the column that it begins at, one below the other; the rest is zero.
    """

    blocks: tuple[tuple[Tensor, int], ...]

    def on_rows(self, x: Tensor) -> Tensor:
        """M x: (..., n, w) -> (..., m, w)."""
        parts = [b @ x[..., s : s + b.shape[1], :] for b, s in self.blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -2)

    def on_columns(self, x: Tensor) -> Tensor:
        """x M^T: (..., h, n) -> (..., h, m)."""
        parts = [x[..., s : s + b.shape[1]] @ b.T for b, s in self.blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


def banded(matrix: Tensor, like: Tensor) -> Banded:
    """M, (m, n), for products with tensors of `like`'s dtype and device."""
    m, n = matrix.shape
    if max(m, n) <= DENSE or like.device.type != "cpu":
        return Banded(((matrix.to(like), 0),))
    blocks = []
    for rows in matrix.to(like).split(ROWS):
        read = (rows != 0).any(0).nonzero()
        first, last = (int(read[0]), int(read[-1])) if len(read) else (0, 0)
        blocks.append((rows[:, first : last + 1].contiguous(), first))
    return Banded(tuple(blocks))
