"""What noise a photograph has: how it grows with brightness, how coarse it is, luma and chroma.

Camera noise is Poisson-Gaussian: variance a I + b (Foi et al., "Practical Poissonian-Gaussian noise
modeling and fitting for single-image raw-data", IEEE TIP 2008). The generalised Anscombe
transformation turns it into noise of one level everywhere, and Makitalo and Foi (IEEE TIP 2013)
give the inverse whose mean is right. After demosaicing, JPEG or enlarging, noise is no longer
white: it is blotchy, in chroma more so.

| papers     | here          | meaning                                                          |
|------------|---------------|------------------------------------------------------------------|
| a I + b    | 1 + r x       | variance at x in [-1, 1], relative to that of mid grey           |
| f(I)       | `stabilised`  | 2 / a sqrt(a I + b), here carried to [-1, 1] again               |
| f^-1(D)    | `unstabilised`| D^2 / 4 - 1 / 8 ..: what is asymptotically unbiased of it         |

How it is measured is ours; how coarse it is stands in `noise_bands`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .bands import bands
from .noise_bands import levels_of
from .noise_or_texture import FEWEST, FLAT_POWER, UNCLIPPED, blocks, is_drawn, is_texture, is_toned

LEAST = 32  # pixels a side
BINS = 6  # of brightness
STEADY = 0.35  # |r| below which noise is as strong in bright parts as in dark ones
NARROW = 0.4  # range of brightness that shows no growth
BETTER = 0.5  # share of the squared error that a slope must leave at most
STEEPEST = 0.97


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """The noise of one picture.

    tilt: r. levels: (4, 3), standard deviations in the stabilised picture by band, fine to coarse,
    and by luma and the two chromas; all zero for a clean picture. white: one level for all of them.
    toned: whether all channels have the same noise. texture: whether the picture is too densely
    textured to tell, drawn: whether it is of letters or patterns; then the levels are zero too.
    """

    tilt: float
    levels: Tensor = field(repr=False)
    white: bool
    toned: bool = False
    texture: bool = False
    drawn: bool = False

    @property
    def level(self) -> float:
        """The largest: what the network is told."""
        return float(self.levels.max())

    @property
    def times(self) -> float:
        """How many times the noise of each channel luma has: sqrt(3) in a grey picture, whose
        channels have the same noise, and 1 where each has its own."""
        return 3**0.5 if self.level and not self.levels[:, 1:].any() else 1.0

    @property
    def blotchy(self) -> bool:
        """Whether some bands have more of it than others."""
        return bool((self.levels != self.levels[:1]).any())

    def at(self, x: float) -> float:
        """The level of each channel of the picture as it came, at brightness x in [-1, 1]."""
        return self.level / (slope(x, self.tilt) * self.times)

    def of_level(self, level: float) -> NoiseModel:
        """As strong as this at mid grey in each channel; the same in all bands and at every
        brightness where the picture was found clean."""
        if self.level:
            return replace(self, levels=self.levels * (level / self.at(0.0)))
        levels = torch.full_like(self.levels, level)
        if self.toned:
            levels[:, 0], levels[:, 1:] = 3**0.5 * level, 0.0
        return NoiseModel(0.0, levels, not self.toned, self.toned)


def noise_of(picture: Tensor) -> NoiseModel:
    """The noise of one picture, (3, H, W) in [-1, 1], of 32x32 pixels or more.

    Raises `ValueError` for a smaller one.
    """
    if min(picture.shape[-2:]) < LEAST:
        raise ValueError(
            f"The picture has {picture.shape[-1]}x{picture.shape[-2]} pixels, too few to tell "
            f"noise from texture; give {LEAST} or more a side."
        )
    x = picture[None]
    tilt = tilt_of(x)
    z = stabilised(x, tilt)
    toned = is_toned(z)
    levels, white, structured = levels_of(z, toned)
    noisy = bool(levels.any())
    drawn = noisy and is_drawn(z, float(levels.max()))
    texture = structured and not noisy
    if noisy and not drawn and (toned or white):
        texture = is_texture(z)
    if drawn or texture:
        levels = torch.zeros_like(levels)
    return NoiseModel(tilt, levels, white, toned, texture, drawn)


def stabilised(x: Tensor, tilt: float) -> Tensor:
    """f(x), so that noise of variance ~ 1 + r x has one level; -1 and 1 stay where they are."""
    if not tilt:
        return x
    low, high = (1 - tilt) ** 0.5, (1 + tilt) ** 0.5
    root = (1 + tilt * x).clamp_min(1e-3).sqrt()
    return 2 * (root - low) / (high - low) - 1


def unstabilised(z: Tensor, tilt: float, level: float) -> Tensor:
    """x of a denoised f(x), z, whose noise had this level.

    E[sqrt(m + n)] = sqrt(m) - var(n) / (8 m^1.5) to second order, with var(n) = r^2 s^2 m where s
    is the level at mid grey: m is the square of what came and r^2 s^2 / 4.
    """
    if not tilt:
        return z
    low, high = (1 - tilt) ** 0.5, (1 + tilt) ** 0.5
    root = (z + 1) / 2 * (high - low) + low
    at_grey = level / slope(0.0, tilt)
    return (root.square() + (tilt * at_grey) ** 2 / 4 - 1) / tilt


def slope(x: float, tilt: float) -> float:
    """f'(x)."""
    if not tilt:
        return 1.0
    return tilt / ((1 + tilt * x) ** 0.5 * ((1 + tilt) ** 0.5 - (1 - tilt) ** 0.5))


def tilt_of(x: Tensor) -> float:
    """r of one picture, (1, 3, H, W); 0 where noise does not visibly change with brightness.

    A line through the variances of the flattest blocks of each of six ranges of brightness, of all
    channels, by least squares of the relative error: a range that is all texture reads too high,
    and a point too high costs at most as much as one twice too low.
    """
    fine, middle, coarse = (blocks(band.square()) for band in bands(x)[:3])
    flatness = (middle + coarse).sum(0)
    points = []
    for c, mean in enumerate(blocks(x)):
        seen = ((mean.abs() < UNCLIPPED) & (fine[c] > FLAT_POWER)).nonzero().flatten()
        for some in seen[mean[seen].argsort()].tensor_split(BINS):
            if len(some) >= FEWEST:
                kept = some[flatness[some].argsort()[: max(FEWEST, len(some) // 10)]]
                points.append(torch.stack([mean[kept].mean(), fine[c, kept].median()]))
    if len(points) < BINS:
        return 0.0
    at, variance = torch.stack(points).double().T
    return slope_of(at, variance.clamp_min(1e-9)) if at.max() - at.min() >= NARROW else 0.0


def slope_of(at: Tensor, variance: Tensor) -> float:
    """r of the line (1 + r at) grey through variances; 0 where it is no better than a constant."""
    weights = torch.stack([1 / variance, at / variance], 1)
    line = torch.linalg.solve(weights.T @ weights, weights.sum(0))
    flat = weights[:, 0].sum() / weights[:, 0].square().sum()
    error = (weights @ line - 1).square().sum()
    if error > BETTER * (weights[:, 0] * flat - 1).square().sum():
        return 0.0
    grey, growth = line.tolist()
    tilt = growth / grey if grey > 0 else growth * float("inf")
    return max(-STEEPEST, min(STEEPEST, tilt)) if abs(tilt) >= STEADY else 0.0
