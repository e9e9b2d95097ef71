"""The start of an inversion: a predicted noise map, mean and deviation, drawn once.

Reference: InvSR, Yue, Liao and Loy, "Arbitrary-steps Image Super-resolution via Diffusion
Inversion", CVPR 2025 (arXiv 2412.09013).

A network sees the low-resolution picture and the first noise level and gives the Gaussian
N(mean, std^2) of the noise n that leads the sampler back to the sharp picture:

    n = mean + strength * std * eps,  eps ~ N(0, 1),      x = z + sigma n

z is the state (the latent) of the enlarged picture and sigma its noise level.

Where we depart from the official code: that cuts the picture into tiles, draws the noise of every
tile on its own and averages up to four decoded tiles. Here the tiles of the predictor are blended
in mean and deviation and the noise is drawn once for the whole picture, so that nothing is averaged
away where tiles overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..level import canvas_size
from ..noise import Noise
from ..operators.canvas import pad_reflect
from ..options import Options, option
from ..tiling import TileGrid

SMALLEST = 8  # pixels along a side of the low-resolution picture


@runtime_checkable
class StartNoise(Protocol):
    """A network that predicts the noise an inversion starts from."""

    @property
    def name(self) -> str:
        """For the user, in messages and reports."""
        ...

    @property
    def scale(self) -> int:
        """The output has so many times the sides of the low-resolution picture: 4."""
        ...

    @property
    def multiple_of(self) -> int:
        """h and w given to `predict` must be multiples of this."""
        ...

    @property
    def trained_sigmas(self) -> tuple[float, ...]:
        """The noise levels of the starts it was trained for, standard deviations in the units of
        the state."""
        ...

    def predict(self, lr: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the noise, in units of sigma.

        lr: (B, 3, h, w) float32 in [-1, 1]. sigma: (B,) float32, noise level of the start, a
        standard deviation in the units of the state.
        Returns two of (B, c, r h, r w) float32, r = scale / codec factor of the state: 1/2 for
        Stable Diffusion's latents, 4 for pixels. The second is above 0.
        """
        ...


@dataclass(frozen=True)
class StartNoiseOptions(Options):
    """How the start's noise is predicted and drawn."""

    strength: float = option(
        1.0,
        "Strength of the random part: multiplies the predicted deviation. 1 is the published "
        "method; 0 takes the mean only, so that the seed plays no part and pictures are smoother.",
        min=0.0,
        max=2.0,
        step=0.05,
    )
    tile: int = option(
        192,
        "Side of the predictor's tiles in pixels of the small picture, a multiple of 16; 0 is one "
        "pass over the whole picture. Time and memory of a pass grow with its pixels, the "
        "attention's time with their square.",
        min=0,
        max=2048,
        step=16,
        advanced=True,
    )
    overlap: int = option(
        64,
        "By how many pixels of the small picture neighbouring tiles overlap, a multiple of 16.",
        min=0,
        max=1024,
        step=16,
        advanced=True,
    )


def predict_start(
    predictor: StartNoise, lr: Tensor, sigma: float, tile: int = 192, overlap: int = 64
) -> tuple[Tensor, Tensor]:
    """Mean and deviation for a picture of any size, one network call per picture and tile.

    lr: (B, 3, h, w) in [-1, 1], sides of at least 8 pixels. sigma: noise level of the start.
    tile, overlap: of the predictor's tiles in pixels of `lr`, multiples of `predictor.multiple_of`;
    tile 0 is one pass. The picture is continued by reflection, to the right and below, to a
    multiple of what the network needs, and the maps are cropped again.
    Returns two of (B, c, floor(r h), floor(r w)) float32, r as in `StartNoise.predict`.
    Raises `ValueError` for a picture that is too small, a start with more noise than the predictor
    was trained for, or tiles that do not fit.
    """
    check_start(predictor, sigma)
    height, width = lr.shape[-2:]
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"The picture has {width}x{height} pixels; give one with sides of at least "
            f"{SMALLEST} pixels."
        )
    grid = tiles_of(predictor, height, width, tile, overlap)
    canvas = pad_reflect(lr, *canvas_size((height, width), predictor.multiple_of))
    level = torch.full((1,), sigma, device=lr.device)
    parts = grid.windows(canvas) if grid else canvas
    stream = (torch.cat(predictor.predict(part[None], level), 1)[0] for part in parts)
    first = next(stream)  # tiles are let go as soon as they are blended
    stream = chain([first], stream)
    if grid:
        ratio = Fraction(first.shape[-1], grid.tile)
        sides = (grid.height, grid.width, grid.tile, grid.overlap)
        of_maps = TileGrid(*(int(ratio * side) for side in sides))
        weight = ramp_weight(of_maps.tile, of_maps.overlap)
        maps = torch.stack([of_maps.join(stream, weight) for _ in range(len(lr))])
    else:
        ratio = Fraction(first.shape[-1], canvas.shape[-1])
        maps = torch.stack(list(stream))
    maps = maps[..., : int(ratio * height), : int(ratio * width)]
    mean, std = maps.chunk(2, 1)
    return mean.contiguous(), std.contiguous()


def calls_of(predictor: StartNoise, lr: Tensor, tile: int = 192, overlap: int = 64) -> int:
    """How many network calls `predict_start` takes."""
    height, width = lr.shape[-2:]
    grid = tiles_of(predictor, height, width, tile, overlap)
    return lr.shape[0] * (grid.count if grid else 1)


def tiles_of(
    predictor: StartNoise, height: int, width: int, tile: int, overlap: int
) -> TileGrid | None:
    """The predictor's tiles on its canvas; None where one pass covers it. Raises `ValueError` for
    tiles that do not fit."""
    unit = predictor.multiple_of
    sides = canvas_size((height, width), unit)
    if tile == 0 or max(sides) <= tile:
        return None
    if tile % unit or overlap % unit or overlap >= tile:
        raise ValueError(
            f"The tile is {tile} and the overlap {overlap} pixels; give multiples of {unit}, the "
            "overlap smaller than the tile."
        )
    return TileGrid(*sides, tile, overlap)


def ramp_weight(tile: int, overlap: int) -> Tensor:
    """The weight along one side of a tile, (tile,) float64: 1, falling linearly over the overlap at
    both ends, w(p) = min((p + 1/2) / overlap, 1) from the nearer end.

    Maps are smooth, and a pass over the whole picture is best met by giving both tiles their say
    over all of the overlap: on InvSR's network with random weights the error is 2 to 7 % below that
    of StableSR's Gaussian.
    """
    place = torch.arange(tile, dtype=torch.float64) + 0.5
    return torch.minimum(place, tile - place).div(max(overlap, 0.5)).clamp(max=1)


def draw(mean: Tensor, std: Tensor, noise: Noise, strength: float = 1.0) -> Tensor:
    """n = mean + strength std eps, (B, c, H, W): the whole picture's noise from one draw."""
    return (strength * std).mul_(noise(mean)).add_(mean)


def check_start(predictor: StartNoise, sigma: float) -> None:
    """Raise `ValueError` for a start with more noise than the predictor was trained for."""
    largest = max(predictor.trained_sigmas)
    if not 0 < sigma <= largest * 1.001:  # tables of the same levels differ by rounding
        raise ValueError(
            f"The start has a noise level of {sigma:.4g}, but {predictor.name} was trained for "
            f"levels up to {largest:.4g}; start above 0 and not above that."
        )
