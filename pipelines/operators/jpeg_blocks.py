"""What a JPEG file holds: luma and colour differences, their 8x8 blocks, and the standard tables.

Planes are in levels of 255 with 0 as mid grey, as JPEG has them after its level shift.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..cosines import cosines

SIDE = 8

# ITU-T T.81, tables K.1 and K.2, row by row from the lowest frequency
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *(((99,) * SIDE,) * 4),
)
COLOURS = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def tables(quality: int) -> tuple[Tensor, Tensor]:
    """The steps of luma's and of the colour differences' coefficients, (8, 8), as libjpeg scales
    the standard tables for a quality from 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    both = (torch.tensor(base) for base in (LUMINANCE, CHROMINANCE))
    luma, chroma = (((t * scale + 50) // 100).clamp(1, 255).float() for t in both)
    return luma, chroma


def planes_of(x: Tensor) -> Tensor:
    """(B, 3, H, W) RGB in [-1, 1] -> Y, Cb, Cr, (B, 3, H, W) in levels about 0."""
    levels = torch.einsum("ij,bjhw->bihw", x.new_tensor(COLOURS), 127.5 * x)
    return levels - x.new_tensor((0.5, 0.0, 0.0))[:, None, None]


def colours_of(planes: Tensor) -> Tensor:
    """A difference of planes as one of pictures in [-1, 1]."""
    back = torch.linalg.inv(torch.tensor(COLOURS, dtype=torch.float64)).to(planes)
    return torch.einsum("ij,bjhw->bihw", back, planes) / 127.5


def coefficients(plane: Tensor) -> Tensor:
    """(..., 8 n, 8 m) -> (..., n, m, 8, 8): the orthonormal cosine transform of every block."""
    d = of_a_block().to(plane)
    blocks = plane.unflatten(-2, (-1, SIDE)).unflatten(-1, (-1, SIDE)).transpose(-2, -3)
    return d @ blocks @ d.T


def plane_of(blocks: Tensor) -> Tensor:
    """The inverse: (..., n, m, 8, 8) -> (..., 8 n, 8 m)."""
    d = of_a_block().to(blocks)
    return (d.T @ blocks @ d).transpose(-2, -3).flatten(-2).flatten(-3, -2)


@cache
def of_a_block() -> Tensor:
    """The transform's matrix, (8, 8) float64, one frequency a row."""
    with torch.inference_mode(False):
        return cosines(SIDE)


def whole_blocks(x: Tensor, side: int, before: tuple[int, int] = (0, 0)) -> Tensor:
    """The picture continued by its last pixels to multiples of `side`, as an encoder does.

    before: rows and columns to continue it by at the top and at the left, where it was cropped.
    """
    top, left = before
    below, right = -(x.shape[-2] + top) % side, -(x.shape[-1] + left) % side
    return F.pad(x, (left, right, top, below), mode="replicate")
