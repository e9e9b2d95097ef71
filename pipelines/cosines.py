"""The orthonormal cosine transform (DCT-II), which knows no border.

Reference: Makhoul, "A Fast Cosine Transform in One and Two Dimensions", IEEE TASSP 1980: with x's
even values in front and its odd ones behind, backwards,

    v = (x_0, x_2, .., x_3, x_1),   V = FFT(v),   X_k - i X_{n-k} = 2 exp(-i pi k / 2 n) V_k

and divided by sqrt(2 n), X_0 by sqrt(2) more, the transform is orthonormal: its inverse is its
transpose.
"""

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


def transformed(x: Tensor, dim: int) -> Tensor:
    """The transform along one dimension, of x's shape."""
    x = x.movedim(dim, -1)
    n = x.shape[-1]
    v = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], -1)
    pairs = torch.fft.rfft(v) * phases(n, x)
    found = torch.cat([pairs.real, -pairs.imag[..., 1 : (n + 1) // 2].flip(-1)], -1)
    return found.movedim(-1, dim)


def transformed_back(found: Tensor, dim: int) -> Tensor:
    """The inverse, which is the transpose."""
    found = found.movedim(dim, -1)
    n = found.shape[-1]
    behind = found[..., (n + 1) // 2 :].flip(-1)
    first = torch.zeros_like(found[..., :1])
    pairs = torch.complex(found[..., : n // 2 + 1], torch.cat([first, -behind], -1))
    v = torch.fft.irfft(pairs / phases(n, found), n)
    x = torch.empty_like(v)
    x[..., ::2], x[..., 1::2] = v[..., : (n + 1) // 2], v[..., (n + 1) // 2 :].flip(-1)
    return x.movedim(-1, dim)


def phases(n: int, like: Tensor) -> Tensor:
    """sqrt(2 / n) exp(-i pi k / 2 n) for k = 0 .. n / 2, by sqrt(2) less for 0."""
    k = torch.arange(n // 2 + 1, device=like.device, dtype=like.dtype)
    length = torch.full_like(k, math.sqrt(2 / n))
    length[0] = math.sqrt(1 / n)
    return torch.polar(length, k * (-math.pi / (2 * n)))
