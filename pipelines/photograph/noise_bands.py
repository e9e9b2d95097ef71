"""What noise the bands of a photograph have.

A picture is split into four bands by the a-trous transform, in an orthonormal luma and two chromas,
so that white noise has one and the same level in all twelve. A band's level is the median over the
blocks that are flattest in the *next coarser* band of luma: noise of one band says nothing of the
other, so that choosing by one does not bias the other.
"""

from __future__ import annotations

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
)

CAUTIOUS = 7 / 127.5  # what may be noise on texture is left below
FLOOR = 1.5 / 127.5  # what is less noisy counts as clean
SEEN = 3.8 / 127.5  # luma level from which noise that is not white is told from texture
WHITE = 0.75  # share of the finest band that the white estimate must explain
ALIKE = 0.22  # of the logarithms of chroma's levels and the white one, where luma has texture too
COARSEST = 1.3  # the most that coarse luma of noise is above its coarse chroma
MARGIN = 1.1  # for what compression took from the picture beside adding to it; best of 1 to 1.3


def levels_of(z: Tensor, toned: bool) -> tuple[Tensor, bool, bool]:
    """(4, 3) levels of one picture, (1, 3, H, W), whether they are all one, and whether texture was
    found that has the levels of noise. toned: see `is_toned`.

    White where the estimate of Chen et al. (`noise_level`), which knows texture, explains most of
    the finest band. Otherwise noise and texture are told apart by chroma, which noise has and
    texture hardly, by how the bands grow, and by its structure.
    """
    found, levels = flattest(z), torch.zeros(BANDS, 3)
    finest = found[0, 0].item()
    luma = min(noise_level(opponent(z)[0, :1].cpu().double()), finest) if toned else 0.0
    if luma >= max(FLOOR, WHITE * finest):
        levels[:, 0] = luma
        return levels, False, False
    if bool((z == z[:, :1]).all()):
        return blotches_of(z, found, luma, True)
    white = noise_level(z[0].cpu().double())  # of the quietest direction
    alike = (found[:, 1:] / max(white, 1e-9)).log().abs() < ALIKE
    even = bool(alike.all(0).any())  # stained tissue has texture in the other
    if white >= max(FLOOR, 0.0 if even else WHITE * finest):
        return levels + white, True, False
    return blotches_of(z, found, white, False)


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
