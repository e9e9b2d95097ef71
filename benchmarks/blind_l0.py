"""A classical blind method to compare with: L0 of gradients (Xu et al., 2013; Pan et al., 2014).

    x = argmin |k * x - y|^2 + weight |grad x|_0     by half quadratic splitting
    k = the least squares kernel of x on gradients

coarse to fine, the weight falling, as in those papers; y is luminance in [0, 1].
"""

from __future__ import annotations

import pack  # noqa: F401  (makes `undegrade` importable)
import torch
import torch.nn.functional as F
from torch import Tensor

from undegrade.pipelines.blind.kernel_estimation import sides
from undegrade.pipelines.blind.kernel_update import (
    GradientFit,
    centred,
    enlarged,
    kernel_of,
    luminance,
    tidied,
)
from undegrade.pipelines.operators.framing import fast_size, wrapped

WEIGHT, DECAY, LEAST = 4e-3, 1.1, 1e-4
ROUNDS, LARGEST_BETA = 5, 1e5
SMOOTH, THRESHOLD, ISLAND = 2e-3, 0.05, 0.1


def periodic(y: Tensor, side: int) -> tuple[Tensor, int, int]:
    """y continued by its border pixels and faded into its other side, and where it lies."""
    size = [fast_size(n + 2 * side) for n in y.shape[-2:]]
    before = [(m - n) // 2 for m, n in zip(size, y.shape[-2:], strict=True)]
    after = [m - n - b for m, n, b in zip(size, y.shape[-2:], before, strict=True)]
    wide = F.pad(y, (before[1], after[1], before[0], after[0]), mode="replicate")
    for d in (0, 1):
        ramp = torch.zeros(size[d])
        ramp[: before[d]] = torch.linspace(0.5, 0, before[d])
        ramp[size[d] - after[d] :] = torch.linspace(0, 0.5, after[d])
        ramp = ramp[:, None] if d == 0 else ramp
        wide = wide + ramp * (wide.flip(d - 2) - wide)
    return wide, before[0], before[1]


def sharp(y: Tensor, k: Tensor, weight: float) -> Tensor:
    """The picture step, y periodic."""
    size = (y.shape[-2], y.shape[-1])
    otf = torch.fft.rfft2(wrapped(k, size))
    rows, columns = torch.zeros(3, 3), torch.zeros(3, 3)
    rows[1, 1] = columns[1, 1] = -1.0
    rows[0, 1] = columns[1, 0] = 1.0
    slopes = [torch.fft.rfft2(wrapped(d, size)) for d in (rows, columns)]
    data, power = otf.conj() * torch.fft.rfft2(y), otf.abs().square()
    gradient_power = sum(d.abs().square() for d in slopes)
    x, beta = y, 2 * weight
    while beta < LARGEST_BETA:
        spectrum = torch.fft.rfft2(x)
        parts = [torch.fft.irfft2(spectrum * d, s=size) for d in slopes]
        kept = sum(p.square() for p in parts) >= weight / beta
        split = sum(d.conj() * torch.fft.rfft2(kept * p)
                    for d, p in zip(slopes, parts, strict=True))
        x = torch.fft.irfft2((data + beta * split) / (power + beta * gradient_power), s=size)
        beta *= 2
    return x


def kernel(y: Tensor, largest: int) -> Tensor:
    """The kernel of y, (1, 3, H, W) in [-1, 1]; (largest, largest) of sum 1."""
    grey, k, weight = (luminance(y) + 1) / 2, None, WEIGHT
    for side in sides(largest):
        size = [round(n * side / largest) for n in y.shape[-2:]]
        level = F.interpolate(grey, size=size, mode="bilinear", antialias=True)
        if k is None:
            k = torch.zeros(side, side)
            k[side // 2, side // 2 : side // 2 + 2] = 0.5
        else:
            k = enlarged(k, side)
        wide, top, left = periodic(level, side)
        for _ in range(ROUNDS):
            x = sharp(wide, k, weight)[..., top : top + size[0], left : left + size[1]]
            found = kernel_of(GradientFit(x, level, side), k, SMOOTH, 30)
            k = tidied(found, THRESHOLD, ISLAND)
            weight = max(weight / DECAY, LEAST)
    assert k is not None
    return centred(k)
