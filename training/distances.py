"""How far pictures are from the true ones: for each sample of a batch, (B,).

Pictures are (B, c, H, W) states or pictures, the weights of each sample where they are given (B,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOWS = (4, 8, 16)  # pixels a side
PERIOD, LATTICE = 8, 64  # pixels: two of the small picture's, and a window with 8 x 8 of them
SIMILAR = 170 / 255**2  # GMSD's constant for gradients of pictures in [-1, 1]
FLAT = 1e-6  # keeps quotients and the slope of a root finite


def square_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean square error."""
    return (x - truth).square().mean((1, 2, 3))


def edge_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of ||grad x| - |grad truth|| at full and half size, Sobel, per channel."""
    found = []
    with torch.autocast(x.device.type, enabled=False):
        for reduction in (1, 2):
            a, b = (F.avg_pool2d(p.float(), reduction) for p in (x, truth))
            found.append((sobel(a) - sobel(b)).abs().mean((1, 2, 3)))
    return torch.stack(found).mean(0)


def texture_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of ||grad x| - |grad truth|| where both are averaged over windows first: how much there
    is counts, and not where exactly."""
    with torch.autocast(x.device.type, enabled=False):
        a, b = sobel(x.float()), sobel(truth.float())
        found = [(F.avg_pool2d(a, n) - F.avg_pool2d(b, n)).abs().mean((1, 2, 3)) for n in WINDOWS]
    return torch.stack(found).mean(0)


def similarity_deviation(x: Tensor, truth: Tensor) -> Tensor:
    """GMSD as in `metrics.gmsd`, of the mean of all channels, with gradients of Sobel's that have a
    slope everywhere."""
    with torch.autocast(x.device.type, enabled=False):
        a, b = (sobel(F.avg_pool2d(p.float().mean(1, keepdim=True), 2)) for p in (x, truth))
        alike = (2 * a * b + SIMILAR) / (a.square() + b.square() + SIMILAR)
    return (alike.var((1, 2, 3), correction=0) + FLAT).sqrt()


def lattice(x: Tensor, truth: Tensor) -> Tensor:
    """The share of the error that repeats every `PERIOD` pixels, from 0 to 1.

    A network that shuffles channels into pixels can pay for texture with one pattern everywhere.
    Errors are averaged over the repetitions within windows: what does not repeat leaves a 64th.
    """
    e = x - truth
    side = min(LATTICE, e.shape[-1], e.shape[-2])
    e = e[..., : e.shape[-2] // side * side, : e.shape[-1] // side * side]
    e = e.unflatten(-2, (-1, side)).unflatten(-1, (-1, side)).transpose(-2, -3)
    e = e - e.mean((-1, -2), keepdim=True)
    again = e.unflatten(-2, (-1, PERIOD)).unflatten(-1, (-1, PERIOD)).mean((-2, -4))
    return again.square().mean((1, 2, 3, 4, 5)) / (e.square().mean((1, 2, 3, 4, 5)) + FLAT)


def sobel(x: Tensor) -> Tensor:
    """Magnitudes of the gradient, (B, c, H, W), as kornia's `sobel`, without constants that would
    have to be brought to the device."""
    p = F.pad(x, (1, 1, 1, 1), mode="replicate")
    across, down = p[..., 2:] - p[..., :-2], p[..., 2:, :] - p[..., :-2, :]
    gx = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    gy = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    return ((gx.square() + gy.square()) / 64 + FLAT).sqrt()
