"""The quality that a picture was saved with as JPEG, read from its pixels.

Reference: Fan and de Queiroz, "Identification of Bitmap Compression History: JPEG Detection and
Quantizer Estimation" (IEEE Transactions on Image Processing 12, 2003): a decoded picture's
cosine coefficients lie in heaps about multiples of the step that each was quantised with.

| paper | here         | meaning                                                              |
|-------|--------------|----------------------------------------------------------------------|
| q     | step         | quantisation step of one frequency                                   |
| Y*    | c            | coefficient of the decoded picture                                   |
| R     | SPREAD       | rounding of the decoder's pixels, here seen in a coefficient          |

Under the hypothesis of a step q the coefficient was drawn from a Laplace density of the frequency's
own width, quantised, and blurred by the rounding of pixels; with a share of strays. A step that is
a fraction of the true one explains all heaps too, but expects others that are empty, so that the
likelihood decides without a penalty. Where we depart: the paper estimates every step by itself; we
compare the hundred tables that programs write (libjpeg's scaling of the standard ones), with all
64 frequencies at once, and with no quantisation at all. Blocks with a value at the end of the range
are left out where there are others, since clipping moves their coefficients; where there are none
nothing is sure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..operators.jpeg_blocks import SIDE, coefficients, planes_of, tables

SPREAD = 0.36  # of a coefficient about its multiple: pixels of Y, and of RGB, were rounded
UNEVEN = 1.0  # levels; pixels of evener blocks are all rounded alike, which moves their mean
FINE = 0.5  # a step at which heaps of that spread run into one another: no quantisation
STRAYS = 0.02
TAIL = 0.1  # of the coefficients, that no Laplace density expects
COARSE = 3.0  # steps beyond which only the nearest heaps count
BIN = 0.1  # coefficients nearer than this are one
HEAPS = 3  # to each side of the nearest that are counted
BLOCKS = 1500  # that are read, spread over the picture
FEW = 12  # blocks without a clipped value, below which nothing is sure
LEAST = 4  # blocks without which there is no answer
COARSE_BLOCKS = 400  # that are read to compare places of the grid
HARMLESS = 96  # qualities above it have steps of 1 and 2 levels, and count as none
ALIVE = 1.5  # levels from which a coefficient is none of rounding's
ENOUGH = 16  # such coefficients, without which a flat picture tells nothing
FOUND = 20.0  # log likelihood over no quantisation that is no chance
NEAR = 5  # qualities that may be confused without harm
SURE = 8.0  # log likelihood over all that are not near


@dataclass(frozen=True)
class Quality:
    """What was found.

    quality:  1 to 100; 100 where no blocks were found.
    found:    whether there are traces of JPEG.
    sure:     whether no quality further off than 5 explains the picture nearly as well.
    top, left: rows and columns before the first whole block; 0 unless the picture was cropped.
    """

    quality: int
    found: bool
    sure: bool
    top: int = 0
    left: int = 0


def estimate_quality(image: Tensor) -> Quality:
    """The JPEG quality of one picture, (3, H, W) in [-1, 1].

    Raises `ValueError` for another shape, NaN, or fewer than four whole blocks.
    """
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"JPEG's quality was asked of {tuple(image.shape)}; give (3, H, W).")
    if not torch.isfinite(image).all():
        raise ValueError("The picture has NaN or infinite values; repair it first.")
    height, width = image.shape[-2:]
    if (height // SIDE) * (width // SIDE) < LEAST:
        raise ValueError(
            f"The picture is {width}x{height} pixels, too few to see JPEG's blocks; give one of "
            "16x16 or more, or set the quality by hand."
        )
    luma = planes_of(image[None].detach().cpu().float())[0, 0]
    clipped = (image.detach().cpu().abs() >= 1).any(0)
    found = judged(luma, clipped, 0, 0)
    if found.found:
        return found
    places = [(top, left) for top in range(SIDE) for left in range(SIDE)]
    fits = [(height - top) // SIDE * ((width - left) // SIDE) >= LEAST for top, left in places]
    places = [place for place, fit in zip(places, fits, strict=True) if fit]
    best = max(places, key=lambda place: zeros(luma, clipped, *place))
    moved = judged(luma, clipped, *best)
    return moved if moved.found and moved.sure else found


def judged(luma: Tensor, clipped: Tensor, top: int, left: int) -> Quality:
    """The most likely quality for blocks that begin at (top, left)."""
    c, whole = read_blocks(luma, clipped, top, left, BLOCKS)
    if int((c.flatten(1)[:, 1:].abs() > ALIVE).sum()) < ENOUGH:
        return Quality(100, False, False)
    qualities = range(1, 101)
    fit = likelihoods(c, qualities)
    best = int(fit[:HARMLESS].argmax())
    others = [float(fit[q - 1]) for q in qualities if abs(q - 1 - best) > NEAR]
    if float(fit[best] - fit[HARMLESS:].max()) < FOUND:
        return Quality(100, False, whole)
    sure = whole and float(fit[best]) - max(others) > SURE
    return Quality(best + 1, True, sure, top, left)


def zeros(luma: Tensor, clipped: Tensor, top: int, left: int) -> float:
    """The share of coefficients that are zero but for rounding, of blocks at (top, left)."""
    c, _ = read_blocks(luma, clipped, top, left, COARSE_BLOCKS)
    return float((c.abs() < 3 * SPREAD).float().mean())


def read_blocks(
    luma: Tensor, clipped: Tensor, top: int, left: int, most: int
) -> tuple[Tensor, bool]:
    """Coefficients of at most `most` blocks, (N, 8, 8), and whether enough are not clipped."""
    rows, columns = ((n - at) // SIDE * SIDE for n, at in zip(luma.shape, (top, left), strict=True))
    window = slice(top, top + rows), slice(left, left + columns)
    c = coefficients(luma[window]).flatten(0, 1)
    whole = ~clipped[window].unflatten(0, (-1, SIDE)).unflatten(2, (-1, SIDE)).any(3).any(1)
    count = int(whole.sum())
    c = c[whole.flatten()] if count >= LEAST else c
    return c[:: -(-len(c) // most)], count >= FEW


def likelihoods(c: Tensor, qualities: range) -> Tensor:
    """log p(c | quality) of each, and of no quantisation last."""
    steps = torch.stack([tables(q)[0] for q in qualities]).flatten(1)  # (Q, 64)
    c = c.flatten(1)
    centred = torch.cat([c[:, :1] - c[:, :1].median(), c[:, 1:]], 1)
    width = centred.abs().mean(0).clamp(min=SPREAD)
    total, uneven = torch.zeros(len(steps) + 1), c[:, 1:].square().mean(1) > UNEVEN**2
    for k in range(SIDE * SIDE):
        values, where = torch.unique(steps[:, k], return_inverse=True)
        values = torch.cat([values, values.new_tensor([FINE])])
        read = c[uneven, 0] if k == 0 else c[:, k]
        fit = heaps(read, values, float(width[k]), float((c - centred)[0, k]))
        total[:-1] += fit[where]
        total[-1] += fit[-1]
    return total


def heaps(c: Tensor, steps: Tensor, width: float, middle: float) -> Tensor:
    """sum over c, (N,), of log p(c | step) for every step, (S,); the density is about `middle`."""
    c, count = torch.unique((c / BIN).round(), return_counts=True)
    c, fits = c * BIN, torch.zeros(len(steps))
    for reach, chosen in ((1, steps > COARSE), (HEAPS, steps <= COARSE)):
        q = steps[chosen][:, None, None]
        at = ((c / q).round() + torch.arange(-reach, reach + 1)[:, None]) * q
        v = at - middle
        mass = (1 - TAIL) * (laplace(v + q / 2, width) - laplace(v - q / 2, width)).clamp(min=0)
        mass = mass + TAIL * (q * cauchy(v, width)).clamp(max=1)
        density = (mass * torch.exp(-((c - at) / SPREAD).square() / 2)).sum(1)
        density = density / (SPREAD * math.sqrt(2 * math.pi))
        p = (1 - STRAYS) * density + STRAYS * cauchy(c - middle, width)
        fits[chosen] = p.log() @ count.float()
    return fits


def cauchy(x: Tensor, width: float) -> Tensor:
    """A density with far tails, which photographs' coefficients have."""
    return width / (math.pi * (width**2 + x.square()))


def laplace(x: Tensor, width: float) -> Tensor:
    """The distribution function of a Laplace density about 0."""
    tail = torch.exp(-x.abs() / width) / 2
    return torch.where(x < 0, tail, 1 - tail)
