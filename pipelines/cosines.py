"""The orthonormal cosine transform (DCT-II), which knows no border."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosines(n: int) -> Tensor:
    """The transform's matrix for n values, (n, n) float64, one frequency a row."""
    k = torch.arange(n, dtype=torch.float64)
    d = torch.cos((2 * k + 1) * k[:, None] * math.pi / (2 * n)) * math.sqrt(2 / n)
    d[0] /= math.sqrt(2)
    return d
