"""Tiled Prior: any prior on a picture of any size, in the memory of a few tiles.

At every noise level the state is cut into overlapping tiles, the network denoises them, and their
x0 are averaged with a Gaussian weight (MultiDiffusion, arXiv 2302.08113; Mixture of Diffusers,
arXiv 2302.02412; StableSR, arXiv 2305.07015):

    x0_hat(p) = sum_k w_k(p) D(x_k, sigma)(p) / sum_k w_k(p)

Those average noise predictions; with x = x0 + sigma n that is the same mean. The sampler above sees
one denoiser for the whole canvas, so that the noise, the measurement update and the switch stay
global and no tile is restored against another's edge.

A tile keeps its size at every level of Multi-Resolution Prior: it is what the network was trained
on, whatever part of the picture it spans. At 1/4 of the size a tile of 256 spans 1024 pixels of the
picture, so that most pictures are seen whole there, and coarse structure is decided in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from ..models.codec import Codec
from ..models.prior import Prior, PriorSpec
from .operators.canvas import pad_reflect
from .options import Options, option
from .out_of_memory import out_of_memory
from .tiling import TileGrid, check_tile

SHARE = 0.7  # of the free memory that automatic calls fill


@dataclass(frozen=True)
class TileOptions(Options):
    """How a picture is cut into tiles, in pixels of the picture, also for a latent prior."""

    tile: int = option(
        0,
        "Side of a tile in pixels of the picture; 0 is the size the prior was trained on.",
        min=0,
        max=16384,
        step=8,
    )
    overlap: int = option(
        64,
        "How much neighbouring tiles share, in pixels of the picture, less than the tile. More "
        "blends softer and takes more tiles: a quarter of the tile for Tiled Prior, half for tiles "
        "that are stitched only once.",
        min=0,
        max=8192,
        step=8,
    )

    def sides(self, prior: Prior) -> tuple[int, int]:
        """(tile, overlap) in pixels of the prior's own states: those of the picture / codec.factor.

        Raises `ValueError` where they do not fit the prior.
        """
        factor, tile = prior.codec.factor, self.tile or prior.spec.native_size
        multiple = factor * prior.spec.multiple_of
        if tile % multiple:
            raise ValueError(
                f"The tile is {tile} pixels; the prior {prior.spec.name} needs a multiple of "
                f"{multiple}."
            )
        if self.overlap % factor:
            raise ValueError(
                f"The overlap is {self.overlap} pixels; the prior {prior.spec.name} needs a "
                f"multiple of {factor}."
            )
        check_tile(tile, self.overlap)
        return tile // factor, self.overlap // factor


T = TypeVar("T")


@dataclass
class Budget:
    """What was learnt of a network's memory: whether it was called before, bytes of a tile, and how
    many are too many."""

    called: bool = False
    bytes_per_tile: float | None = None
    limit: int | None = None

    def measured(self, device: torch.device, tiles: int, asked: int, call: Callable[[], T]) -> T:
        """What a call with so many tiles gives. Where none were asked for, the second one on CUDA
        is measured, as weights may come to the card with the first."""
        called, self.called = self.called, True
        if asked or self.bytes_per_tile or not called or device.type != "cuda":
            return call()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        made = call()
        peak = torch.cuda.max_memory_allocated(device) - before
        self.bytes_per_tile = peak / tiles
        return made

    def most(self, device: torch.device, asked: int, share: float = SHARE) -> int:
        """How many tiles the next call may have, 1 or more: those that were asked for, or, where it
        is none, as many as fill that share of the free memory."""
        most, cost = asked, self.bytes_per_tile
        if not most:
            most = int(share * free_memory(device) / cost) if cost else 1
        return max(1, most if self.limit is None else min(most, self.limit))

    def tried(self, tiles: int, call: Callable[[], T]) -> T | None:
        """What a call with so many tiles gives; None where the GPU had no memory for that many, and
        half as many are the most from now on. Raises any other error, and that of a single tile."""
        try:
            return call()
        except RuntimeError as error:
            if not out_of_memory(error) or tiles == 1:
                raise
        # What the card ran out of may not be torch's own pool, and the error held the call's.
        torch.cuda.empty_cache()
        self.limit = tiles // 2
        return None


@dataclass(frozen=True, eq=False)
class TiledPrior:
    """A prior for states of any height and width, made of its own tiles.

    tiles_per_call: the most tiles in one network call; tiles of all samples of a batch are taken
    together. 0 is automatic: on CUDA two calls have one tile, of which the second is measured, and
    later ones fill 0.7 of the memory then free; elsewhere calls have one tile, which needs the
    least memory.
    When the GPU runs out of memory the number is halved, and stays so; with one tile the error is
    passed on. The result does not depend on it.

    A state no larger than a tile goes through whole, reflected up to what the prior asks
    (`spec.multiple_of`) and cropped again: mirrored noise reaches those few rows. A state with one
    side longer and one shorter than a tile is reflected to a tile. `spec.multiple_of` is therefore
    1: a sampler needs no canvas beyond the picture and the coarsest level.

    Derivatives pass through (`torch.func.vjp`, for the likelihood gradient), and then keep what
    every tile's backward pass needs: that memory grows with the picture.
    Raises `ValueError` where tile or overlap do not fit the prior.
    """

    prior: Prior
    options: TileOptions = field(default_factory=TileOptions)
    tiles_per_call: int = 0
    sides: tuple[int, int] = field(init=False)
    spec: PriorSpec = field(init=False)
    budget: Budget = field(init=False, default_factory=Budget, repr=False)

    def __post_init__(self) -> None:
        if self.tiles_per_call < 0:
            raise ValueError(
                f"There are to be {self.tiles_per_call} tiles per call; give 1 or more, or 0 for "
                "automatic."
            )
        object.__setattr__(self, "sides", self.options.sides(self.prior))
        object.__setattr__(self, "spec", replace(self.prior.spec, multiple_of=1, bytes_per_pixel=0))

    @property
    def codec(self) -> Codec:
        """The wrapped prior's."""
        return self.prior.codec

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat, (B, C, h, w), of any h and w; see `Prior`. sigma: (B,)."""
        tile, overlap = self.sides
        height, width = x.shape[-2:]
        if max(height, width) <= tile:
            multiple = self.prior.spec.multiple_of
            whole = pad_reflect(x, *(-(-side // multiple) * multiple for side in (height, width)))
            x0_hat = torch.stack(list(self.predictions(whole, sigma, factor)))
            return x0_hat[..., :height, :width]
        grid = TileGrid(height, width, tile, overlap)
        sigmas = sigma.repeat_interleave(grid.count)
        stream = self.predictions(grid.windows(x), sigmas, factor)
        return torch.stack([grid.join(stream) for _ in range(len(x))])

    def predictions(self, tiles: Iterable[Tensor], sigmas: Tensor, factor: int) -> Iterator[Tensor]:
        """x0_hat of every tile, (C, tile, tile) each, a network call whenever they run out."""
        todo, done = list(tiles), 0
        while done < len(todo):
            some = slice(done, done + self.most(todo[0].device))
            asked = partial(self.call, torch.stack(todo[some]), sigmas[some], factor)
            x0_hat = self.budget.tried(len(todo[some]), asked)
            if x0_hat is not None:
                done += len(x0_hat)
                yield from x0_hat

    def call(self, tiles: Tensor, sigmas: Tensor, factor: int) -> Tensor:
        """A network call, measured where the number of tiles is automatic."""
        return self.budget.measured(tiles.device, len(tiles), self.tiles_per_call,
                                    lambda: self.prior.denoise(tiles, sigmas, factor))

    def most(self, device: torch.device) -> int:
        """How many tiles the next call may have, 1 or more."""
        return self.budget.most(device, self.tiles_per_call)


def free_memory(device: torch.device) -> int:
    """Bytes that a CUDA device can still give, those that torch keeps in reserve included."""
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + reserve
