"""States that one network call would not hold, and what memory a run takes.

A convolutional network sees a few hundred pixels around each pixel, most of it within one hundred.
Cut into tiles of 1024 pixels that share 128, a picture changes by under .3 of 255 against one call
over the whole (built-in prior, starts of Inversion Sampler), and memory is that of one tile.
"""

from __future__ import annotations

from ..models.codec import Identity
from ..models.prior import Prior
from .tiled_prior import TiledPrior, TileOptions

WHOLE = 2048**2  # pixels of the largest state that one call gets
TILES = TileOptions(tile=1024, overlap=128)
STATES = 12  # of four bytes a value that a run has at once beside the network's own maps


def in_tiles(prior: Prior, height: int, width: int) -> Prior:
    """The prior for states of this size: itself, or tiles of it where they are too large.

    Only of priors that tell `bytes_per_pixel`; others are as their user has wrapped them.
    """
    known = prior.spec.bytes_per_pixel and isinstance(prior.codec, Identity)
    return TiledPrior(prior, TILES) if known and height * width > WHOLE else prior


def bytes_of_run(prior: Prior, batch: int, height: int, width: int) -> int:
    """What a run with pictures of this size takes at its peak, in bytes of the computer's memory.

    Too little for a network of which nothing is known. On the CPU a call of Tiled Prior has one
    tile.
    """
    height, width = (-(-side // prior.codec.factor) for side in (height, width))
    states, inner = 4 * STATES * batch * prior.spec.channels * height * width, prior
    while hasattr(inner, "prior"):
        if isinstance(inner, TiledPrior):
            batch, (height, width) = 1, (min(n, inner.sides[0]) for n in (height, width))
        inner = inner.prior
    return int(states + inner.spec.bytes_per_pixel * batch * height * width)
