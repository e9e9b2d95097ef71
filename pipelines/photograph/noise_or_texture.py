"""Noise told from texture, by the blocks of a picture in which the coarser detail is flattest.

Noise has chroma, and texture hardly any; texture grows more from the finest band to the next, is
peaked where noise is Gaussian, and differs from block to block. Three kinds are looked for: what
JPEG, demosaicing or enlarging left blotchy, what a camera smoothed, and texture that is neither.
Letters and patterns have few levels, and noise all of them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..opponent import opponent
from .bands import bands, gains

BLOCK, STRIDE = 16, 8  # pixels
GAP = 2  # pixels between which the middle band's differences are taken
FLAT, FEWEST = 0.05, 8  # share of the blocks that is read, and how many at least
UNCLIPPED = 0.93  # block means beyond have lost noise to black and white
FLAT_POWER = 1e-8  # a block drawn in one colour has less
COLOURED = 0.5  # coarse chroma of noise, relative to its finest luma; texture has less
GROWS = 2.65  # texture grows more than this from the finest band of luma to the next
GROWS_GREY = 1.7  # the same where there is no chroma to tell by
PEAKED, DENSE = 3.75, 2.5  # kurtosis and growth beyond which flat blocks hold texture
PROCESSED = 3.2 / 127.5  # level of luma's second band from which a camera's smoothed noise is told
SMOOTHED = 5 / 127.5  # the most that it has in the finest band; brickwork has more
TINTED = 0.35  # coarse chroma of such noise, relative to that
ALL_OVER = 0.42  # deviation of the logarithm of its power over flat blocks; texture's is larger
ALIKE, NEAR = 0.6, 0.25  # share of neighbours that differ by less than this share of the noise
FEW_LEVELS = 2.0  # kurtosis below which the finest band holds a pattern; noise has 2.3 at least
TONED = 0.4  # deviation of colour from a curve of luma, over luma's finest level
TINGE = 2 / 127.5  # the most that it is at all
PIXELS = 2**18  # that are fitted at a time
STRUCTURED, STRUCTURED_GREY = 0.05, 0.3  # products of `is_structured`, from which it is texture


def is_noise(fine: float, middle: float, chroma: list[float], grey: bool) -> bool:
    """Whether flat blocks with these levels of luma, and of chroma by band, hold noise.

    Demosaiced noise grows as texture does, and is as strong in the finest chroma as in luma.
    """
    if grey:
        return middle < GROWS_GREY * fine
    return chroma[2] > COLOURED * fine and (middle < GROWS * fine or chroma[0] > fine / 2)


def is_processed(z: Tensor, fine: float, middle: float, chroma: float) -> bool:
    """Whether flat blocks hold noise that a camera has smoothed: next to none in the finest band,
    but in the next one of luma as much in every block, and coarse in colour.

    fine, middle: levels of luma's first two bands; chroma: of colour's third.
    """
    coarse = middle >= max(PROCESSED, GROWS * fine) and chroma >= TINTED * middle
    if not coarse or fine > SMOOTHED:
        return False
    band, coarser = (blocks(b.square())[0] for b in bands(opponent(z)[:, :1])[1:3])
    kept = flattest(z, band, coarser)
    return len(kept) >= FEWEST and bool(band[kept].log().std() < ALL_OVER)


def is_structured(z: Tensor, fine: float, middle: float, grey: bool) -> bool:
    """Whether what flat blocks hold is texture after all, though its levels are noise's: fur,
    foliage, facades, rock, engravings.

    The product of four numbers is larger for texture: how luma grows from the finest band to the
    middle one, the deviation of the logarithm of the finest band's power over the blocks, how much
    more the middle band changes in one direction than across it (`one_way`), and its correlation
    with the first chroma (not in grey). Of 1091 noises on 82 photographs, blotchy by JPEG,
    demosaicing or enlarging, `STRUCTURED` takes 5 in 100; of 275 textures that `is_noise` took, it
    finds 71 in 100 (on 20 other photographs 8, and all of 37).
    """
    split = bands(opponent(z))[:3]
    finest, power, coarser = (blocks(band[:, :1].square())[0] for band in split)
    uneven = finest[flattest(z, finest, power)].clamp_min(FLAT_POWER).log().std()
    kept, band = flattest(z, power, coarser), split[1]
    if len(kept) < FEWEST:
        return False
    product = middle / fine * uneven * one_way(band[:, :1], kept)
    if grey:
        return bool(product > STRUCTURED_GREY)
    both = blocks(band[:, :1] * band[:, 1:2])[0, kept]
    each = power[kept] * blocks(band[:, 1:2].square())[0, kept]
    return bool(product * (both.abs() / each.sqrt().clamp_min(FLAT_POWER)).median() > STRUCTURED)


def one_way(band: Tensor, kept: Tensor) -> Tensor:
    """|ln| of the power of a band's differences along one direction over that across it, the larger
    of rows and columns and of the two diagonals; its median over blocks. (1, 1, H, W) -> ()."""
    x = band[..., :-GAP, :-GAP]
    across, down = band[..., :-GAP, GAP:] - x, band[..., GAP:, :-GAP] - x
    falling = band[..., GAP:, GAP:] - x
    rising = band[..., :-GAP, GAP:] - band[..., GAP:, :-GAP]
    differences = (F.pad(d, (0, GAP, 0, GAP)).square() for d in (across, down, falling, rising))
    a, b, c, d = (blocks(power)[0, kept].clamp_min(FLAT_POWER).log() for power in differences)
    return torch.maximum((a - b).abs(), (c - d).abs()).median()


def is_drawn(z: Tensor, told: float) -> bool:
    """Whether what was taken for noise of this level is letters, strokes or a pattern: even in the
    flattest blocks of luma most neighbours are alike, or the finest band has next to no levels but
    two.

    Of 755 noises of 5 to 50 of 255 on 30 photographs, saved as PNG, as JPEG of 88 to 20, enlarged
    or demosaiced, two have as many neighbours alike (JPEG of quality 20); clean pages of letters
    have .73 and more, as JPEG of quality 75 .35 to .84; with noise of 8 on them .36 and less.
    """
    luma = opponent(z)[:, :1]
    fine, power, _, kept = flat_luma(z)
    if len(kept) < FEWEST:
        return False
    finest = float(power[kept].median().sqrt() / gains()[0])
    if finest < SMOOTHED:  # where cameras and rounding leave neighbours alike
        return False
    here, least = luma[..., :-1, :-1], NEAR * min(told, finest)
    step = torch.minimum((luma[..., :-1, 1:] - here).abs(), (luma[..., 1:, :-1] - here).abs())
    alike = blocks(F.pad((step < least).float(), (0, 1, 0, 1)))[0, kept].median()
    levels = blocks(fine.square().square())[0, kept] / power[kept].square()
    return bool(alike > ALIKE) or bool(levels.median() < FEW_LEVELS)


def is_toned(z: Tensor) -> bool:
    """Whether the channels of a picture, (1, 3, H, W), have the same noise: it is grey, or its
    colours are next to a curve of its luma, as toned prints and scans of black and white are."""
    if bool((z == z[:, :1]).all()):
        return True
    split = opponent(z)
    off = off_the_curve(split[0].flatten(1).cpu())
    fine = blocks(bands(split[:, :1])[0].square())[0]
    return bool(off < min(TINGE, TONED * float(fine.median().sqrt() / gains()[0])))


def off_the_curve(pixels: Tensor) -> float:
    """The deviation of both chromas from their best cubic curves of luma, pixels (3, count), by
    least squares from sums: of many pixels no matrix is made."""
    sums, power = torch.zeros(4, 6, dtype=torch.float64), 0.0
    for luma, *chromas in (part.double() for part in pixels.split(PIXELS, 1)):
        curve, both = torch.stack([luma**k for k in range(4)]), torch.stack(chromas)
        sums += curve @ torch.cat([curve, both]).T
        power += float(both.square().sum())
    known, asked = sums.split([4, 2], 1)
    explained = (asked * torch.linalg.lstsq(known, asked).solution).sum()
    return (max(power - float(explained), 0.0) / (2 * pixels.shape[1])) ** 0.5


def is_texture(z: Tensor) -> bool:
    """Whether even the flattest blocks of luma hold texture: it is peaked, where noise is Gaussian,
    and grows from the finest band to the next.
    """
    fine, power, coarser, kept = flat_luma(z)
    peaked = blocks(fine.square().square())[0] / power.square().clamp_min(FLAT_POWER**2)
    if len(kept) < FEWEST:
        return False
    growth = (coarser[kept].median() / power[kept].median()).sqrt() * gains()[0] / gains()[1]
    return bool(peaked[kept].median() > PEAKED) and bool(growth > DENSE)


def flat_luma(z: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The finest band of luma, (1, 1, H, W), its power and the next one's by blocks, (count,), and
    the numbers of the blocks that are flattest in the next one."""
    fine, middle = bands(opponent(z)[:, :1])[:2]
    power, coarser = (blocks(band.square())[0] for band in (fine, middle))
    return fine, power, coarser, flattest(z, power, coarser)


def flattest(z: Tensor, power: Tensor, coarser: Tensor) -> Tensor:
    """The numbers of the blocks with least power in a coarser band, of those neither clipped nor
    drawn in one colour; at least `FEWEST` where there are so many."""
    seen = ((blocks(z).abs().amax(0) < UNCLIPPED) & (power > FLAT_POWER)).nonzero().flatten()
    return seen[coarser[seen].argsort()[: max(FEWEST, int(FLAT * len(seen)))]]


def blocks(x: Tensor) -> Tensor:
    """Means of overlapping blocks of one picture, (1, C, H, W) -> (C, count)."""
    return F.avg_pool2d(x, BLOCK, STRIDE)[0].flatten(1)
