"""How far pictures are from the true ones: for each sample of a batch, (B,).

Pictures are (B, c, H, W) states or pictures, the weights of each sample where they are given (B,).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOWS = (4, 8, 16)  # pixels a side


def square_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean square error."""
    return (x - truth).square().mean((1, 2, 3))


def edge_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of ||grad x| - |grad truth|| at full and half size, Sobel, per channel."""
    from kornia.filters import sobel

    found = []
    with torch.autocast(x.device.type, enabled=False):
        for reduction in (1, 2):
            a, b = (F.avg_pool2d(p.float(), reduction) for p in (x, truth))
            found.append((sobel(a) - sobel(b)).abs().mean((1, 2, 3)))
    return torch.stack(found).mean(0)


def texture_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of ||grad x| - |grad truth|| where both are averaged over windows first: how much there
    is counts, and not where exactly."""
    from kornia.filters import sobel

    with torch.autocast(x.device.type, enabled=False):
        a, b = sobel(x.float()), sobel(truth.float())
        found = [(F.avg_pool2d(a, n) - F.avg_pool2d(b, n)).abs().mean((1, 2, 3)) for n in WINDOWS]
    return torch.stack(found).mean(0)
