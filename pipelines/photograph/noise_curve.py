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

How it is measured is ours. A picture is split into four bands by the a-trous transform, in an
orthonormal luma and two chromas, so that white noise has one and the same level in all twelve. A
band's level is the median over the blocks that are flattest in the *next coarser* band of luma:
noise of one band says nothing of the other, so that choosing by one does not bias the other.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..opponent import opponent
from .bands import BANDS, bands, gains
from .noise_level import noise_level
from .noise_or_texture import (
    FEWEST,
    FLAT,
    FLAT_POWER,
    UNCLIPPED,
    blocks,
    is_noise,
    is_processed,
    is_structured,
    is_texture,
)

LEAST = 32  # pixels a side
BINS = 6  # of brightness
STEADY = 0.35  # |r| below which noise is as strong in bright parts as in dark ones
NARROW = 0.4  # range of brightness that shows no growth
BETTER = 0.5  # share of the squared error that a slope must leave at most
STEEPEST = 0.97
CAUTIOUS = 7 / 127.5  # what may be noise on texture is left below
FLOOR = 1.5 / 127.5  # what is less noisy counts as clean
SEEN = 3.8 / 127.5  # luma level from which noise that is not white is told from texture
WHITE = 0.75  # share of the finest band that the white estimate must explain
ALIKE = 0.22  # of the logarithms of chroma's levels and the white one, where luma has texture too
COARSEST = 1.3  # the most that coarse luma of noise is above its coarse chroma
MARGIN = 1.1  # for what compression took from the picture beside adding to it; best of 1 to 1.3


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """The noise of one picture.

    tilt: r. levels: (4, 3), standard deviations in the stabilised picture by band, fine to coarse,
    and by luma and the two chromas; all zero for a clean picture. white: one level for all of them.
    texture: whether the picture is too densely textured to tell; then the levels are zero too.
    """

    tilt: float
    levels: Tensor = field(repr=False)
    white: bool
    texture: bool = False

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
        """As strong as this at mid grey; white and even where the picture was found clean."""
        if not self.level:
            return NoiseModel(0.0, torch.full_like(self.levels, level), True)
        return replace(self, levels=self.levels * (level / self.at(0.0)))


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
    levels, white, structured = levels_of(z)
    if levels.any() and (bool((z == z[:, :1]).all()) or white) and is_texture(z):
        return NoiseModel(tilt, torch.zeros_like(levels), white, texture=True)
    return NoiseModel(tilt, levels, white, texture=structured and not levels.any())


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


def levels_of(z: Tensor) -> tuple[Tensor, bool, bool]:
    """(4, 3) levels of one picture, (1, 3, H, W), whether they are all one, and whether texture was
    found that has the levels of noise.

    White where the estimate of Chen et al. (`noise_level`), which knows texture, explains most of
    the finest band. Otherwise noise and texture are told apart by chroma, which noise has and
    texture hardly, by how the bands grow, and by its structure.
    """
    grey = bool((z == z[:, :1]).all())
    found = flattest(z)
    white = noise_level(z[0].cpu().double())  # of the quietest direction, or of the grey channel
    luma = min(white * 3**0.5, found[0, 0].item()) if grey else white
    levels = torch.zeros(BANDS, 3)
    alike = (found[:, 1:] / max(white, 1e-9)).log().abs() < ALIKE
    even = not grey and bool(alike.all(0).any())  # stained tissue has texture in the other
    if luma >= max(FLOOR, 0.0 if even else WHITE * found[0, 0]):
        levels[:, 0] = luma
        levels[:, 1:] = 0.0 if grey else white
        return levels, not grey, False
    return blotches_of(z, found, luma, grey)


def blotches_of(z: Tensor, found: Tensor, luma: float, grey: bool) -> tuple[Tensor, bool, bool]:
    """What `levels_of` returns of a picture that white noise does not explain.

    Where texture has the levels of noise, only what the finest luma and the coarse chromas all have
    counts: of noise on fur or brick that is .7 to 1 of the true level in the median, of such
    pictures without noise it is below `CAUTIOUS` in half, where nothing is done.
    """
    fine, middle, chroma = (float(v) for v in (found[0, 0], found[1, 0], found[2, 1:].mean()))
    noise = fine >= SEEN and is_noise(fine, middle, found[:, 1:].mean(1).tolist(), grey)
    structured = noise and is_structured(z, fine, middle, grey)
    if structured:
        least = min(fine, float(found[2, 1:].min()))
        found, noise = found.clamp_max(least), least >= CAUTIOUS
        fine, middle, chroma = (min(v, least) for v in (fine, middle, chroma))
    if not noise and (structured or grey or not is_processed(z, fine, middle, chroma)):
        level = luma if luma >= FLOOR else 0.0
        levels = torch.full((BANDS, 3), level)
        levels[:, 1:] *= not grey
        return levels, not grey, structured
    levels = torch.cat([found, found[2:]])
    levels[1:, 0] = max(fine, middle if grey else min(middle, COARSEST * chroma))
    levels[:, 1:] = torch.minimum(levels[:, 1:], levels[:, :1])
    return MARGIN * levels, False, False


def flattest(z: Tensor) -> Tensor:
    """(3, 3): the levels of bands and channels in the blocks flattest in the next coarser luma."""
    split = bands(opponent(z))
    powers = [blocks(band.square()) for band in split[:3]]
    left = blocks(split[3].square()) - blocks(split[3]).square()
    drawn = powers[0].amax(0) < FLAT_POWER
    seen = ((blocks(z).abs().amax(0) < UNCLIPPED) & ~drawn).nonzero().flatten()
    if len(seen) < FEWEST:
        seen = torch.arange(powers[0].shape[1], device=z.device)
    count = max(FEWEST, int(FLAT * len(seen)))
    found = []
    for k, coarser in enumerate([*powers[1:], left]):
        kept = seen[coarser[0, seen].argsort()[:count]]
        found.append(powers[k][:, kept].median(1).values.sqrt() / gains()[k])
    return torch.stack(found).cpu()
