"""For every patch that reaches into a hole, the known patch that is nearest to it.

Nearest is the least sum of squared differences over p x p pixels. Where patches are few every pair
is compared; where they are many, better ones are looked for as PatchMatch does (Barnes, Shechtman,
Finkelstein and Goldman, "PatchMatch: A Randomized Correspondence Algorithm for Structural Image
Editing", SIGGRAPH 2009): what lies beside a good match probably matches what lies beside it, and a
guess far off finds what no neighbour has.

| paper    | here               | meaning                                                         |
|----------|--------------------|-----------------------------------------------------------------|
| f(a)     | source - centre    | from how far away the patch at a is copied                      |
| D(v)     | distance           | sum of squared differences of the two patches                   |
| w, alpha | furthest, NEARER   | radius of the first guess, and the next one's share of it       |

The paper improves one patch after the other, in the order of reading. Here all are improved at the
same time from what their neighbours had, so that a pass is a few calls for any number of patches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 2**15  # patches compared at once
NEARER = 0.25
MOST = 2**14  # known patches that all others are compared with


@dataclass(eq=False)
class Canvas:
    """A picture with a hole, and its patches by the number of their middle pixel, y W + x.

    pixels: (H, W, C), changed in place as the hole fills; hole: (H, W) bool; known: (H, W) bool,
    the middles of patches that may be copied. `centres`, (N,): middles of those that touch the
    hole; `row_of`, (H W,): which of the N a pixel is, or -1. `tick` is called before every chunk of
    work, and may raise to end it.
    """

    pixels: Tensor
    hole: Tensor
    known: Tensor
    patch: int
    tick: Callable[[], None] = lambda: None
    centres: Tensor = field(init=False)
    row_of: Tensor = field(init=False)

    def __post_init__(self) -> None:
        touched = grown(self.hole, self.patch // 2) & inner(self.hole, self.patch // 2)
        self.centres = touched.flatten().nonzero()[:, 0]
        self.row_of = torch.full((self.hole.numel(),), -1, device=self.hole.device)
        self.row_of[self.centres] = torch.arange(len(self.centres), device=self.hole.device)

    @property
    def width(self) -> int:
        """In pixels."""
        return self.hole.shape[1]

    @property
    def flat(self) -> Tensor:
        """(H W, C): the same pixels by number."""
        return self.pixels.view(-1, self.pixels.shape[2])

    def distance(self, at: Tensor, source: Tensor) -> Tensor:
        """(N,): how far the patches at two times N pixels differ; inf where none may be copied."""
        far = []
        for a, s in zip(at.split(CHUNK), source.split(CHUNK), strict=True):
            self.tick()
            apart = patches(self.pixels, self.patch, a) - patches(self.pixels, self.patch, s)
            far.append(apart.square().sum((1, 2)))
        return torch.cat(far).where(self.known.flatten()[source], torch.inf)


def grown(where: Tensor, r: int) -> Tensor:
    """(H, W) bool: what is at most r pixels from it, along rows and columns."""
    return F.max_pool2d(where[None, None].float(), 2 * r + 1, 1, r)[0, 0] > 0


def inner(like: Tensor, r: int) -> Tensor:
    """(H, W) bool: where a patch of radius r lies inside of the picture."""
    inside = torch.zeros_like(like, dtype=torch.bool)
    inside[r : like.shape[0] - r, r : like.shape[1] - r] = True
    return inside


def patches(pixels: Tensor, p: int, at: Tensor) -> Tensor:
    """(N, p, p C): the patches of (H, W, C) around (N,) pixel numbers, which `inner` holds."""
    height, width, channels = pixels.shape
    lines = pixels.view(-1).as_strided((height * width - p + 1, p * channels), (channels, 1))
    down = torch.arange(-(p // 2), p // 2 + 1, device=at.device) * width - p // 2
    return lines[at[:, None] + down]


def nearest_of_all(
    canvas: Canvas, at: Tensor, known: Tensor, weight: Tensor | None = None
) -> Tensor:
    """(N,): the nearest to the patches at (N,) pixels among those at `known`, all compared.

    weight: (H, W, C), how much each pixel of the patches at `at` counts; 1 if None. Of more than
    `MOST` known ones every second, third or k-th is looked at.
    """
    known, p = known[:: -(-len(known) // MOST)], canvas.patch
    s = patches(canvas.pixels, p, known).flatten(1)
    power, found = s.square(), []
    for part in at.split(max(1, 2**24 // len(known))):
        canvas.tick()
        t = patches(canvas.pixels, p, part).flatten(1)
        if weight is None:
            far = power.sum(1) - 2 * t @ s.mT
        else:
            w = patches(weight, p, part).flatten(1)
            far = w @ power.mT - 2 * (w * t) @ s.mT
        found.append(known[far.argmin(1)])
    return torch.cat(found)


def improved(
    canvas: Canvas, source: Tensor, furthest: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Nearer known patches for all centres, and their distances, (N,) each.

    source: (N,), what they are so far; furthest: pixels.
    """
    best = canvas.distance(canvas.centres, source)
    for step in (1, -1, canvas.width, -canvas.width):
        beside = canvas.row_of[(canvas.centres + step).clamp(0, canvas.hole.numel() - 1)]
        candidate = source[beside.clamp_min(0)] - step
        source, best = nearer(canvas, source, best, candidate, beside >= 0)
    while furthest >= 1:
        jump = 2 * torch.rand((2, len(source)), generator=generator) - 1
        y, x = (furthest * jump).round().long().to(source.device)
        candidate = moved(canvas, source, y, x)
        source, best = nearer(canvas, source, best, candidate, candidate != source)
        furthest = int(furthest * NEARER)
    return source, best


def moved(canvas: Canvas, at: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Pixel numbers moved down and to the right, kept inside of the picture."""
    height, width = canvas.hole.shape
    rows = (at // width + y).clamp(0, height - 1)
    return rows * width + (at % width + x).clamp(0, width - 1)


def nearer(
    canvas: Canvas, source: Tensor, best: Tensor, candidate: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor]:
    """The nearer of what is and a candidate, where there is a valid one."""
    candidate = candidate.clamp(0, canvas.hole.numel() - 1)
    valid = valid & canvas.known.flatten()[candidate] & (candidate != source)
    rows = valid.nonzero()[:, 0]
    distance = torch.full_like(best, torch.inf)
    distance[rows] = canvas.distance(canvas.centres[rows], candidate[rows])
    return torch.where(distance < best, candidate, source), torch.minimum(best, distance)
