"""Where a picture is scratched: thin streaks, folds and dust, brighter or darker than around them.

A small network says of every pixel how likely it is part of a bright scratch, or of a dark one
(`Finder`): it has seen scratches drawn over photographs, with their wires, hair and letters beside
them. What is measured in the picture itself decides with it:

- A mark is thin and stands out. The top-hat (Serra, 1982), the picture less its opening by a square
  wider than the widest scratch, keeps thin bright marks and neither edges nor broad light; dark
  ones are the bright ones of the negative. It must exceed `threshold`.
- Marks are rare. Where a tenth of the pixels around would be marked it is texture, as brickwork.
- A mark goes on. From where the network is sure it is followed as far as both say half as much
  (hysteresis).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Options, option

SURE, MAYBE = 0.75, 0.35  # of the network, to begin a mark and to go on with it
WEAK = 0.5  # of the threshold, from which a pixel belongs to a mark found beside it
LENGTH = 31  # pixels that a mark is followed
SEEN = 6  # pixels, the widest scratch that the network was shown
CROWD, AROUND = 0.1, 97  # share of the pixels around that marks may be, and pixels of the window
FURTHER = 1.5  # how much denser it may be where a mark goes on
KINDS = ("both", "bright", "dark")


class Finder(Protocol):
    """A network that finds scratches."""

    def likely(self, picture: Tensor) -> Tensor:
        """How likely each pixel is a bright scratch, and a dark one: (B, 2, H, W) in [0, 1].

        picture: (B, 3, H, W) in [-1, 1].
        """
        ...


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


def scratches(image: Tensor, options: ScratchOptions, finder: Finder) -> Tensor:
    """1 on scratches, a pixel around them included, else 0: (B, 1, H, W) float32.

    image: (B, 3, H, W) in [-1, 1], of any size. Every picture is looked at by itself.
    """
    signs = {"both": (1, -1), "bright": (1,), "dark": (-1,)}[options.kind]
    masks = []
    for one in image.split(1):
        likely = likely_at(one, options.largest_width, finder)
        found = [marks(one, sign, options, likely) for sign in signs]
        masks.append(torch.stack(found).amax(0))
    return torch.cat(masks)


def likely_at(picture: Tensor, width: int, finder: Finder) -> Tensor:
    """What the network says of one picture; for broader marks of a smaller one, too."""
    likely = finder.likely(picture)
    times = min(-(-width // SEEN), *picture.shape[-2:])
    if times > 1:
        small = finder.likely(F.avg_pool2d(picture, times, ceil_mode=True))
        likely = torch.maximum(likely, F.interpolate(small, size=picture.shape[-2:]))
    return likely


def marks(picture: Tensor, sign: int, options: ScratchOptions, likely: Tensor) -> Tensor:
    """The bright marks of one picture, (1, 1, H, W) in {0, 1}, or with sign -1 the dark ones."""
    grey = sign * (picture.mean(1, keepdim=True) + 1) / 2
    thin = grey - opened(grey, options.largest_width + 2)
    own = likely[:, :1] if sign > 0 else likely[:, 1:]
    allowed = (own > MAYBE) & (thin > WEAK * options.threshold)
    share = mean_around(allowed.float(), AROUND)
    seeds = (share < CROWD) & (own > SURE) & (thin > options.threshold)
    allowed &= share < FURTHER * CROWD
    return F.max_pool2d(spread(seeds, allowed).float(), 3, 1, 1)


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
    """The mean of a square window, of those of its pixels that lie inside."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def mean_in_bands(x: Tensor, side: int, tick: Callable[[], None]) -> Tensor:
    """`mean_around`, some rows at a time, and `tick` before each."""
    band, r, found = max(256, 4 * side), side // 2, []
    for top in range(0, x.shape[2], band):
        tick()
        first = max(0, top - r)
        part = mean_around(x[:, :, first : top + band + r], side)
        found.append(part[:, :, top - first : top - first + band])
    return torch.cat(found, 2)


def spread(seeds: Tensor, allowed: Tensor, steps: int = LENGTH) -> Tensor:
    """Seeds grown pixel by pixel within what is allowed: hysteresis."""
    grown, within = seeds.float(), allowed.float()
    for _ in range(steps):
        grown = torch.maximum(grown, F.max_pool2d(grown, 3, 1, 1) * within)
    return grown > 0
