"""Sums over each sample of a batch, whose bits do not depend on the batch.

How torch splits a sum among threads depends on how many sums there are, and where in memory they
begin. On the CPU a sample's values are therefore summed by themselves, in memory of their own. On a
card that would be a kernel for every sample; there all are summed at once, by rows of a fixed
length, and the rows' sums by rows again:

- at most 32 values, no more than a warp's own number, in whatever shape;
- a multiple of four, to 2048, in at least 16 rows: CUDA then gives each row one warp, so that the
  order of its additions does not depend on how many rows there are (`setReduceConfig`, Reduce.cuh:
  blocks of 16 warps, which share a row from 8192 values on only).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SHORT, LONG, LONGEST = 32, 512, 2048  # values of a row: of the last, of many rows, of 17 to 32


def dot(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> per sample: (B, ...), (B, ...) -> (B,)."""
    if u.device.type != "cpu":
        return by_rows((u * v).flatten(1))
    pairs = zip(u.flatten(1), v.flatten(1), strict=True)
    return torch.stack([(a * b).sum() for a, b in pairs])


def dots(us: Sequence[Tensor], v: Tensor) -> Sequence[Tensor]:
    """<u, v> per sample for several u of v's shape, in as many kernels as one takes, but for one:
    (B, ...), (B, ...) -> (B,) each, with the bits of `dot`."""
    if v.device.type == "cpu":
        return [dot(u, v) for u in us]
    products = (torch.stack([*us]) * v).flatten(2)
    return by_rows(products.flatten(0, 1)).view(len(us), len(v)).unbind()


def squares(*vs: Tensor) -> Sequence[Tensor]:
    """<v, v> per sample for each, in as many kernels as one takes, but for one, where all have one
    shape: (B, ...) -> (B,) each, with the bits of `dot`."""
    if vs[0].device.type == "cpu" or len({v.shape for v in vs}) > 1:
        return [dot(v, v) for v in vs]
    together = torch.stack(vs).flatten(2).square()
    return by_rows(together.flatten(0, 1)).view(len(vs), -1).unbind()


def mean_square(v: Tensor) -> Tensor:
    """(B, ...) -> (B,)."""
    if v.device.type != "cpu":
        return dot(v, v) / v[0].numel()
    return torch.stack([sample.square().mean() for sample in v])


def by_rows(values: Tensor) -> Tensor:
    """(B, n) -> (B,), in two to four kernels for pictures of any size and number."""
    n = values.shape[1]
    if n <= SHORT:
        return values.sum(1)
    length = -(-n // (4 * SHORT)) * 4
    length = length if length <= LONGEST else LONG
    rows = F.pad(values, (0, -n % length)) if n % length else values
    return by_rows(rows.reshape(len(values), -1, length).sum(2))
