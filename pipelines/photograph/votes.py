"""What the patches over a pixel say it is: their mean, or the nearest one's word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .nearest_patches import CHUNK, Canvas

INWARD, DEEPEST = 1.3, 16  # weight lost per pixel of depth, and pixels to which it is counted


def vote(canvas: Canvas, source: Tensor, best: Tensor) -> None:
    """Every pixel of the hole becomes the weighted mean of what the patches over it have there.

    source, best: (N,), the known patch of each centre and how far it is. A patch weighs
    exp(-d^2 / mean d^2) 1.3^-depth: the mean is of the patches over that pixel, the depth is the
    middle's in the hole.
    """
    inside = canvas.hole.flatten().nonzero()[:, 0]
    rim, filled = INWARD ** -depth(canvas.hole).flatten()[canvas.centres], []
    for part in inside.split(CHUNK):
        canvas.tick()
        rows, offsets = over(canvas, part)
        there = rows >= 0
        far = best[rows.clamp_min(0)].where(there, 0)
        mean = (far.sum(0) / there.sum(0)).clamp_min(1e-6)
        weight = (torch.exp(-far / mean) * rim[rows.clamp_min(0)]).where(there, 0)
        weight /= weight.sum(0)
        total = torch.zeros_like(canvas.flat[part])
        for k in range(len(offsets)):
            said = source[rows[k].clamp_min(0)] + offsets[k]
            total += weight[k, :, None] * canvas.flat[said.where(there[k], part)]
        filled.append(total)
    canvas.flat[inside] = torch.cat(filled)


def copies(canvas: Canvas, source: Tensor, best: Tensor) -> Tensor:
    """(H W,): the number of the pixel that each is a copy of: in the hole what the nearest patch
    over it has there, itself elsewhere."""
    found = torch.arange(canvas.hole.numel(), device=source.device)
    for part in canvas.hole.flatten().nonzero()[:, 0].split(CHUNK):
        canvas.tick()
        rows, offsets = over(canvas, part)
        far = best[rows.clamp_min(0)].where(rows >= 0, torch.inf)
        k = far.argmin(0)
        found[part] = source[rows.gather(0, k[None])[0]] + offsets[k]
    return found


def over(canvas: Canvas, at: Tensor) -> tuple[Tensor, Tensor]:
    """(p p, n): which centres' patches lie over (n,) pixels, -1 where none does; and (p p,): from
    a middle to that pixel.

    A middle beyond the picture's edge is none, and where its number is another pixel's, that one
    lies too near to the edge to be a middle.
    """
    r = torch.arange(-(canvas.patch // 2), canvas.patch // 2 + 1, device=at.device)
    offsets = (r[:, None] * canvas.width + r).flatten()
    middles = (at - offsets[:, None]).clamp(0, canvas.hole.numel() - 1)
    return canvas.row_of[middles], offsets


def depth(hole: Tensor) -> Tensor:
    """(H, W): how many pixels it is to the rim, up to `DEEPEST`; 0 outside."""
    inside = hole[None, None].float()
    total = inside
    for _ in range(DEEPEST - 1):
        inside = -F.max_pool2d(-inside, 3, 1, 1)
        total = total + inside
    return total[0, 0]
