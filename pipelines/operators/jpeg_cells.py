"""What a picture was before JPEG, given what is believed of it: closed form, block by block.

A file says of every cosine coefficient c that it lay in a cell about a multiple of the step q that
it was quantised with. With a Gaussian belief c ~ N(c_hat, r^2) the mean given the cell is that of a
truncated normal, and nothing needs to be derived from rounding or to be iterated.

| here   | meaning                                                                           |
|--------|-----------------------------------------------------------------------------------|
| c_hat  | coefficient of the prediction                                                     |
| c_y    | coefficient of the measured picture: a multiple of q, and noise                   |
| r      | standard deviation of the belief about c_hat                                      |
| s      | standard deviation of the noise in c_y: pixels were rounded, or more was added    |
| n, w   | the cell's middle, and how unsure it is                                           |

With noise the multiple itself is unsure. Its mean n and deviation w given c_y are those of a sum
over the multiples around: for s far below q they are the nearest one and 0, far above it c_y and s.
The prediction is then held against a cell with blurred walls, u ~ uniform(n - q/2, n + q/2) and
u | c ~ N(c, w^2):

    E[c] = c_hat + r^2 / (r^2 + w^2) (m - c_hat),
    m = mean of N(c_hat, r^2 + w^2) between n - q/2 and n + q/2.

Belief and noise are the same for all coefficients of a plane, since the transform is orthonormal;
colour differences move less than luma (`SHARE`). In a block that the picture's border cuts, the
file's own continuation is not known: part of the quantisation's error counts as noise there.

Colour differences are stored at half resolution (4:2:0), at half the width (4:2:2) or whole
(4:4:4); decoders enlarge them by a triangle filter, a few by repeating. Of these ways the one is
taken whose coefficients lie nearest to multiples of their steps. Steps of 1, those of quality 100,
tell of none: colour is whole there, as it came. Where a picture was cropped since it was saved its
blocks begin elsewhere, and those of colour in one of four places that luma allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .jpeg_blocks import (
    COLOURS,
    SIDE,
    coefficients,
    colours_of,
    plane_of,
    planes_of,
    tables,
    whole_blocks,
)

MACRO = 16  # pixels: two blocks, since colour is stored at half resolution
WAYS = {  # how colour was enlarged -> rows and columns of pixels for each one stored
    "triangle": (2, 2),
    "repeated": (2, 2),
    "whole": (1, 1),
    "triangle, wide": (1, 2),
    "repeated, wide": (1, 2),
}
SHARE = (1.0, 0.5, 0.5)  # of r, by which Y, Cb and Cr are off
ROUNDS = 12  # to undo a triangle filter; its weakest frequency keeps a quarter
CLEARLY = 0.9  # of the deviation from multiples, below which another way of colour is believed
NEAR = 3  # multiples to each side that noise may hide
THIN = 0.02  # cells in units of the belief, below which the mean is their middle
FAR = 6.0  # deviations, beyond which nothing is


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one batch of measured pictures.

    middles, widths, steps: n, w and q of Y, Cb and Cr, (B, n, m, 8, 8); q is (8, 8).
    smaller: rows and columns of pixels for each one of stored colour. before: rows and columns of
    the first blocks that lie above the picture and left of it.
    """

    middles: tuple[Tensor, ...]
    widths: tuple[Tensor, ...]
    steps: tuple[Tensor, ...]
    smaller: tuple[int, int] = (2, 2)
    before: tuple[int, int] = (0, 0)

    def mean(self, v: Tensor, r: float, error: Tensor | None = None) -> Tensor:
        """E[v | the cells], (B, 3, H, W) in [-1, 1], for v ~ N(v, r^2).

        error: an example of what v may be off by where that is not white, as of v = A x with an x
        that is off by white noise of deviation 1.
        """
        examples = [None] * 3 if error is None else self.blocks(error)
        moved = []
        for k, (c, example) in enumerate(zip(self.blocks(v), examples, strict=True)):
            std = c.new_tensor(127.5 * SHARE[k] * r)
            if example is not None:
                white = 127.5 * math.hypot(*COLOURS[k]) / math.prod(self.shrink(k)) ** 0.5
                std = std * (example.square().mean((0, 1, 2)).sqrt() / white).clamp(min=1e-4)
            d = plane_of(shift(c, self.middles[k], self.widths[k], self.steps[k], std))
            down, right = self.shrink(k)
            moved.append(d.repeat_interleave(right, -1).repeat_interleave(down, -2))
        (height, width), (top, left) = v.shape[-2:], self.before
        change = colours_of(torch.stack(moved, 1))
        return v + change[..., top : top + height, left : left + width]

    def blocks(self, v: Tensor) -> list[Tensor]:
        """The coefficients of Y, Cb and Cr as a file would store them, but for rounding."""
        planes = planes_of(whole_blocks(v, MACRO, self.before)).unbind(1)
        return [coefficients(halved(p, self.shrink(k))) for k, p in enumerate(planes)]

    def shrink(self, k: int) -> tuple[int, int]:
        """Rows and columns of pixels for each one of plane k."""
        return self.smaller if k else (1, 1)


def cells_of(
    y: Tensor, quality: int, noise_level: float, top: int = 0, left: int = 0
) -> Cells:
    """The cells that pictures y, (B, 3, H, W) in [-1, 1], decoded from JPEG, tell of.

    top, left: rows and columns before the first whole block, 0 to 7.
    """
    luma, chroma = (table.to(y) for table in tables(quality))
    s, steps = 127.5 * noise_level, (luma, chroma, chroma)
    way, before, pair = colour_stored(y, chroma, top, left)
    planes = planes_of(whole_blocks(y, MACRO, before))
    smaller = WAYS[way]
    cut = [outside(y, before, sides) for sides in ((1, 1), smaller, smaller)]
    found = [
        multiples(c, q, (s**2 + part * q.square() / 12).sqrt())
        for c, q, part in zip((coefficients(planes[:, 0]), *pair), steps, cut, strict=True)
    ]
    middles, widths = zip(*found, strict=True)
    return Cells(middles, widths, steps, smaller, before)


def colour_stored(
    y: Tensor, steps: Tensor, top: int, left: int
) -> tuple[str, tuple[int, int], list[Tensor]]:
    """How colour was stored and where its blocks begin, and its coefficients.

    The first of `WAYS` and of the places that luma's blocks allow, unless another is clearly
    nearer to multiples. A picture that was not cropped begins with a block of colour.
    """
    cropped = (0, SIDE) if top or left else (0,)
    ways = WAYS if float(steps.max()) > 1 else ("whole",)
    rows, columns = ([(-at - more) % MACRO for more in cropped] for at in (top, left))
    found: list[tuple[float, str, tuple[int, int], list[Tensor]]] = []
    for before in ((a, b) for a in rows for b in columns):
        planes = planes_of(whole_blocks(y, MACRO, before))
        for way in ways:
            pair = [coefficients(stored(planes[:, k], way)) for k in (1, 2)]
            off = deviation(pair, steps)
            found.append((off / CLEARLY if found else off, way, before, pair))
    return min(found, key=lambda each: each[0])[1:]


def shift(c_hat: Tensor, n: Tensor, w: Tensor, q: Tensor, r: Tensor) -> Tensor:
    """E[c] - c_hat."""
    std = (r.square() + w.square()).sqrt()
    low, high = (n - q / 2 - c_hat) / std, (n + q / 2 - c_hat) / std
    return r.square() / std * truncated(low, high)


def truncated(low: Tensor, high: Tensor) -> Tensor:
    """The mean of N(0, 1) between low and high.

    By erfcx, which neither under- nor overflows, for the mirrored case with low + high >= 0.
    """
    turned = low + high < 0
    a, b = torch.where(turned, -high, low), torch.where(turned, -low, high)
    middle, size = (a + b) / 2, b - a
    a, b = a.clamp(min=-FAR), b.clamp(min=-FAR)
    e = torch.exp((a.square() - b.square()) / 2)
    mass = torch.special.erfcx(a / math.sqrt(2)) - e * torch.special.erfcx(b / math.sqrt(2))
    mean = math.sqrt(2 / math.pi) * (1 - e) / mass
    mean = torch.where(size < THIN, middle, mean.clamp(a, b))
    return torch.where(turned, -mean, mean)


def multiples(c: Tensor, q: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the multiple of q that c is with noise of deviation s."""
    nearest, s = (c / q).round() * q, s.expand(c.shape).clamp(min=1e-3)
    total, first, second = torch.zeros_like(c), torch.zeros_like(c), torch.zeros_like(c)
    for k in range(-NEAR, NEAR + 1):
        value = nearest + k * q - c
        p = torch.exp(((nearest - c).square() - value.square()) / (2 * s.square()))
        total, first, second = total + p, first + p * value, second + p * value.square()
    mean = first / total
    fine = s > NEAR / 2 * q  # more multiples than were counted: c itself
    deviation = (second / total - mean.square()).clamp(min=0).sqrt()
    return torch.where(fine, c, c + mean), torch.where(fine, s, deviation)


def stored(plane: Tensor, way: str) -> Tensor:
    """A colour difference, (B, H, W), as it was stored, if it was enlarged in that way."""
    smaller = WAYS[way]
    if smaller == (1, 1):
        return plane
    target = halved(plane, smaller)
    if way.startswith("repeated"):
        return target
    small = target
    for _ in range(ROUNDS):
        small = small + target - halved(doubled(small, smaller), smaller)
    return small


def halved(plane: Tensor, smaller: tuple[int, int]) -> Tensor:
    """Means of so many rows and columns."""
    return F.avg_pool2d(plane, smaller) if smaller != (1, 1) else plane


def doubled(plane: Tensor, smaller: tuple[int, int]) -> Tensor:
    """Enlarged by the triangle filter, 3/4 and 1/4 along each axis that is twice as long."""
    factors = (float(smaller[0]), float(smaller[1]))
    return F.interpolate(plane[:, None], scale_factor=factors, mode="bilinear")[:, 0]


def deviation(pair: list[Tensor], q: Tensor) -> float:
    """How far coefficients lie from multiples of q, root mean square."""
    squares = [(c - (c / q).round() * q).square().mean() for c in pair]
    return math.sqrt(sum(float(square) for square in squares))


def outside(y: Tensor, before: tuple[int, int], smaller: tuple[int, int]) -> Tensor:
    """The share of each block that lies beyond the picture, (n, m, 1, 1)."""
    shares = []
    for size, first, times in zip(y.shape[-2:], before, smaller, strict=True):
        whole = size + first + -(size + first) % MACRO
        at = torch.arange(whole, device=y.device)
        inside = ((at >= first) & (at < first + size)).to(y).view(-1, SIDE * times).mean(1)
        shares.append(inside)
    return 1 - (shares[0][:, None] * shares[1])[..., None, None]
