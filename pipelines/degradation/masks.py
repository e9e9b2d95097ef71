"""Masks of seen and hidden pixels.

`seen` is 1 where a pixel was seen and 0 where it is hidden, as `Inpainting` takes it; a ComfyUI
MASK is the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..options import Options, option


@dataclass(frozen=True)
class RandomMask(Options):
    """Single pixels hidden at random, in all colours alike."""

    hidden: float = option(
        0.7,
        "Fraction of the pixels that is hidden; 0.7 in the papers.",
        min=0.0,
        max=0.999,
        step=0.01,
    )

    def seen(self, height: int, width: int, seed: int) -> Tensor:
        """(1, 1, height, width) float32; see `random_mask`."""
        return random_mask(height, width, self.hidden, seed)


@dataclass(frozen=True)
class BoxMask(Options):
    """A rectangle hidden; the default is the centred square of half the picture's side."""

    width: float = option(
        0.5, "Width of the rectangle as a fraction of the picture's.", min=0.0, max=1.0, step=0.01
    )
    height: float = option(
        0.5, "Height of the rectangle as a fraction of the picture's.", min=0.0, max=1.0, step=0.01
    )
    x: float = option(
        0.5,
        "Where it stands: 0 at the left edge, 0.5 centred, 1 at the right.",
        min=0.0,
        max=1.0,
        step=0.01,
    )
    y: float = option(
        0.5,
        "Where it stands: 0 at the upper edge, 0.5 centred, 1 at the lower.",
        min=0.0,
        max=1.0,
        step=0.01,
    )

    def seen(self, height: int, width: int) -> Tensor:
        """(1, 1, height, width) float32. The rectangle has int(fraction * side) pixels a side.

        Raises `ValueError` when it would hide the whole picture.
        """
        box = fraction_of(height, self.height), fraction_of(width, self.width)
        if box == (height, width):
            raise ValueError(
                f"The box hides all of {width}x{height} pixels; give a width or height below 1."
            )
        top, left = fraction_of(height - box[0], self.y), fraction_of(width - box[1], self.x)
        seen = torch.ones(1, 1, height, width)
        seen[..., top : top + box[0], left : left + box[1]] = 0
        return seen


def random_mask(height: int, width: int, hidden_fraction: float, seed: int) -> Tensor:
    """(1, 1, height, width) float32 with exactly int(height width hidden_fraction) zeros.

    hidden_fraction: in [0, 1). seed: in [0, 2^64).
    The official SubDAPS code seeds numpy with a file's number, draws one uniform value, and then
    the hidden pixels; this draws the same way from a generator of its own, so that seed 0 gives the
    mask of its picture 0.png at 256x256. numpy's `RandomState` is frozen: no version changes it.
    """
    words = [seed % 2**32, seed // 2**32]
    generator = np.random.RandomState(words if words[1] else words[0])
    generator.uniform()
    pixels = height * width
    hidden = generator.choice(pixels, fraction_of(pixels, hidden_fraction), replace=False)
    seen = torch.ones(pixels)
    seen[torch.from_numpy(hidden)] = 0
    return seen.view(1, 1, height, width)


def fraction_of(whole: int, fraction: float) -> int:
    """int(whole * fraction), where 0.29 * 100 is 29: rounding error does not cost a pixel."""
    return int(whole * fraction + 1e-9)
