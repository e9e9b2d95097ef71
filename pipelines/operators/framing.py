"""The frame in which a convolution is a product of FFTs, and what lies beyond a picture's edge."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor


def folded(u: Tensor, r: int, border: str) -> Tensor:
    """The adjoint of continuing a picture by r pixels: what was copied there is added back."""
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


def wrapped(k: Tensor, size: tuple[int, int]) -> Tensor:
    """k about the first pixel of a picture that repeats without end; kernels may be larger."""
    r = k.shape[-1] // 2
    offset = torch.arange(-r, r + 1, device=k.device)
    rows, columns = (offset % size[0])[:, None].expand(k.shape), (offset % size[1]).expand(k.shape)
    return k.new_zeros(size).index_put((rows, columns), k, accumulate=True)


@cache
def fast_size(n: int) -> int:
    """The smallest even 2^a 3^b 5^c >= n: sizes that every FFT library is quick at."""
    return min(
        m
        for m in (2**a * 3**b * 5**c for a in range(1, 15) for b in range(6) for c in range(5))
        if m >= n
    )
