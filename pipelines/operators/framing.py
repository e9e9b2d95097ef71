"""The frame in which a convolution is a product of FFTs, and what lies beyond a picture's edge."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from ..constants import Constants
from .banded import banded

DENSE = 320  # pixels of a side up to which products with whole matrices are quick on a card


def unframed(
    owner: Constants, u: Tensor, shape: tuple[int, int], r: int, border: str
) -> Tensor:
    """The adjoint of continuing a picture of that shape by r pixels, and to the end of u, a frame:
    what was copied there is added back. On a card two products take less time than ten small
    sums; their matrices are kept with the owner."""
    height, width = shape
    if r and by_products(shape, u):
        rows, columns = owner.constant(
            ("folding", shape, u.dtype, u.device),
            lambda: tuple(
                banded(fold_matrix(n, r, border, whole), u)
                for n, whole in zip(shape, u.shape[-2:], strict=True)
            ),
        )
        return rows.on_rows(columns.on_columns(u))
    u = u[..., : height + 2 * r, : width + 2 * r]
    return folded(u, r, border) if r else u


def folded(u: Tensor, r: int, border: str) -> Tensor:
    """The adjoint of continuing a picture by r pixels."""
    for dim in (-2, -1):
        before, core, after = u.split((r, u.shape[dim] - 2 * r, r), dim)
        core = core.clone()
        n = core.shape[dim]
        if border == "replicate":
            core.narrow(dim, 0, 1).add_(before.sum(dim, keepdim=True))
            core.narrow(dim, n - 1, 1).add_(after.sum(dim, keepdim=True))
        else:
            core.narrow(dim, 1, r).add_(before.flip(dim))
            core.narrow(dim, n - 1 - r, r).add_(after.flip(dim))
        u = core
    return u


def fold_matrix(n: int, r: int, border: str, size: int) -> Tensor:
    """`folded` along an axis as a product: (n, size), which reads the first n + 2 r of a frame's
    `size` values."""
    continued = torch.arange(-r, n + r)
    if border == "replicate":
        read = continued.clamp(0, n - 1)
    else:
        read = n - 1 - (n - 1 - continued.abs()).abs()
    matrix = torch.zeros(n, size, dtype=torch.float64)
    return matrix.index_put((read, torch.arange(n + 2 * r)), torch.ones(()).double())


def wrapped(k: Tensor, size: tuple[int, int]) -> Tensor:
    """k about the first pixel of a picture that repeats without end; kernels may be larger."""
    r = k.shape[-1] // 2
    offset = torch.arange(-r, r + 1, device=k.device)
    rows, columns = (offset % size[0])[:, None].expand(k.shape), (offset % size[1]).expand(k.shape)
    return k.new_zeros(size).index_put((rows, columns), k, accumulate=True)


def by_products(size: tuple[int, int], like: Tensor) -> bool:
    """Whether what is separable is done by two dense products."""
    return like.device.type != "cpu" and max(size) <= DENSE


@cache
def fast_size(n: int) -> int:
    """The smallest even 2^a 3^b 5^c >= n: sizes that every FFT library is quick at."""
    return min(
        m
        for m in (2**a * 3**b * 5**c for a in range(1, 15) for b in range(6) for c in range(5))
        if m >= n
    )
