"""Where a picture is scratched: thin streaks, folds and dust, brighter or darker than around them.

Two things make a mark. It is thin: the top-hat (Serra, 1982), the picture less its opening by a
square wider than any scratch, keeps thin bright marks and neither edges nor broad light. And it is
long: along one of sixteen directions the mean over a line is above that of both parallel lines
beside it, which an edge, bright on one side, is not, and which texture averages away. Dust is thin
in every direction, and must stand out further. What a texture of many thin marks has itself, as
fur, is taken from both. Dark marks are the bright ones of the negative.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Options, option

DIRECTIONS = 16
LENGTH = 31  # pixels of a line
AROUND = 41  # side of the window in which texture is measured
STREAKS, SPECKS = 3.0, 2.5  # how many times the mean response around it a mark must have
WEAK = 0.5  # of the threshold, from which a pixel belongs to a mark found beside it
DUST = 1.8  # how much further than a streak dust must stand out
CROWD = 0.06  # share of the window that may be as bright: dust is rare
KINDS = ("both", "bright", "dark")


@dataclass(frozen=True)
class ScratchOptions(Options):
    """What counts as a scratch."""

    kind: str = option("both", "Whether marks are brighter than the picture, darker, or either.",
                       choices=KINDS)
    threshold: float = option(
        0.1,
        "Contrast of a mark, as a share of black to white. Lower finds fainter scratches, and more "
        "that are none.",
        min=0.01,
        max=1.0,
        step=0.01,
    )
    largest_width: int = option(
        5,
        "Width in pixels of the broadest scratch. Broader marks are left alone; a larger number "
        "takes more thin things of the picture for scratches.",
        min=1,
        max=64,
    )


def scratches(image: Tensor, options: ScratchOptions) -> Tensor:
    """1 on scratches, a pixel around them included, else 0: (B, 1, H, W) float32.

    image: (B, 3, H, W) in [-1, 1], of any size. Every picture is looked at by itself.
    """
    grey = (image.mean(1, keepdim=True) + 1) / 2
    signs = {"both": (1, -1), "bright": (1,), "dark": (-1,)}[options.kind]
    found = [torch.cat([marks(sign * one[None], options) for one in grey]) for sign in signs]
    return torch.stack(found).amax(0)


def marks(grey: Tensor, options: ScratchOptions) -> Tensor:
    """The bright marks of one picture, (1, 1, H, W) in [0, 1], or of its negative."""
    width, threshold = options.largest_width, options.threshold
    thin = grey - opened(grey, width + 2)
    along = longest(grey, width)
    along = along - STREAKS * mean_around(along.clamp_min(0), AROUND)
    streaks = spread((along > threshold) & (thin > WEAK * threshold),
                     (along > WEAK * threshold) & (thin > WEAK * threshold))
    texture = SPECKS * mean_around(thin, AROUND)
    bright = thin - texture > DUST * threshold
    rare = mean_around((thin > WEAK * threshold).float(), AROUND) < CROWD
    dust = spread(bright & rare, thin > WEAK * threshold + texture, width)
    return F.max_pool2d((streaks | dust).float(), 3, 1, 1)


def longest(grey: Tensor, width: int) -> Tensor:
    """How far the mean of a line is above that of both its neighbours, in the best direction."""
    beside = width // 2 + 2
    reach = beside + 1
    best = torch.full_like(grey, -torch.inf)
    for k in range(DIRECTIONS):
        angle = math.pi * k / DIRECTIONS
        line = mean_along(grey, angle, reach)
        middle, left, right = (
            shifted(line, round(side * math.cos(angle)), -round(side * math.sin(angle)), reach)
            for side in (0, beside, -beside)
        )
        best = torch.maximum(best, middle - torch.maximum(left, right))
    return best


def mean_along(grey: Tensor, angle: float, reach: int) -> Tensor:
    """The mean over a line in this direction, of every pixel and of `reach` more on every side."""
    radius = LENGTH // 2
    padded = F.pad(grey, (radius + reach,) * 4, mode="replicate")
    total = torch.zeros_like(padded[..., radius:-radius, radius:-radius])
    for t in range(-radius, radius + 1):
        total += shifted(padded, round(t * math.sin(angle)), round(t * math.cos(angle)), radius)
    return total / LENGTH


def shifted(padded: Tensor, down: int, right: int, pad: int) -> Tensor:
    """The window that lies that far below and to the right of the middle of a padded picture."""
    height, width = padded.shape[-2] - 2 * pad, padded.shape[-1] - 2 * pad
    return padded[..., pad + down : pad + down + height, pad + right : pad + right + width]


def opened(x: Tensor, side: int) -> Tensor:
    """Grey opening by a square: what is narrower than it goes."""
    before, after = (side - 1) // 2, side // 2
    eroded = -pooled(-x, before, after)
    return pooled(eroded, after, before)


def pooled(x: Tensor, before: int, after: int) -> Tensor:
    """The largest value of a square window around each pixel."""
    padded = F.pad(x, (before, after, before, after), mode="replicate")
    rows = F.max_pool2d(padded, (before + after + 1, 1), 1)
    return F.max_pool2d(rows, (1, before + after + 1), 1)


def mean_around(x: Tensor, side: int) -> Tensor:
    """The mean of a square window; the border pixel is repeated."""
    padded = F.pad(x, (side // 2,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)


def spread(seeds: Tensor, allowed: Tensor, steps: int = LENGTH) -> Tensor:
    """Seeds grown pixel by pixel within what is allowed: hysteresis."""
    grown, within = seeds.float(), allowed.float()
    for _ in range(steps):
        grown = torch.maximum(grown, F.max_pool2d(grown, 3, 1, 1) * within)
    return grown > 0
