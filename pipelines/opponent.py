"""Luma and two chromas of an RGB picture, orthonormal, so that white noise stays white."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

LUMA = ((3**-0.5,) * 3, (2**-0.5, 0.0, -(2**-0.5)), (6**-0.5, -2 * 6**-0.5, 6**-0.5))


def opponent(x: Tensor) -> Tensor:
    """RGB -> luma and two chromas, (B, 3, H, W)."""
    return torch.einsum("ij,bjhw->bihw", axes(x.device), x)


def from_opponent(x: Tensor) -> Tensor:
    """The other way."""
    return torch.einsum("ji,bjhw->bihw", axes(x.device), x)


@lru_cache(8)
def axes(device: torch.device) -> Tensor:
    """(3, 3), a channel a row; of use in and out of inference mode."""
    with torch.inference_mode(False):
        return torch.tensor(LUMA, device=device)
