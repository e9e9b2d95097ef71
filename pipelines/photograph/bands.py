"""A picture as four bands of detail, in luma and two chromas that keep white noise white.

The a-trous transform with the kernel (1, 4, 6, 4, 1) / 16 (Starck and Murtagh, 1994): every band is
as large as the picture, their sum is the picture, and band k has what two blurs, the second with
twice the gap, leave between them.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = 4  # the last is what is left: all that is coarser


def bands(x: Tensor) -> list[Tensor]:
    """Four bands of (B, C, H, W), fine to coarse, that sum to it."""
    found = []
    for k in range(BANDS - 1):
        low = smoothed(smoothed(x, 2**k).mT, 2**k).mT
        found.append(x - low)
        x = low
    return [*found, x]


def smoothed(x: Tensor, gap: int) -> Tensor:
    """(1, 4, 6, 4, 1) / 16 along the columns with `gap` pixels between the taps; mirrored."""
    height = x.shape[-2]
    x = F.pad(x, (0, 0, 2 * gap, 2 * gap), mode="reflect")
    one, two, mid, four, five = (x[..., k * gap : k * gap + height, :] for k in range(5))
    return (one + five + 4 * (two + four) + 6 * mid) / 16


@cache
def gains() -> tuple[float, ...]:
    """What white noise of level 1 has in each band."""
    impulse = torch.zeros(1, 1, 63, 63)
    impulse[..., 31, 31] = 1
    return tuple(band.square().sum().sqrt().item() for band in bands(impulse))
