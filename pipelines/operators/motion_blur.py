"""Blur of a moving camera: a straight line, or the random walk of a shaken hand.

Both kernels are drawn the same way: the path is cut into many short pieces, and each leaves its
share of light in the four pixels around it, by bilinear weights. A kernel's centre of mass lies on
its middle pixel, so that a blurred picture is not shifted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import option
from .blur import Blur, gaussian_weights

PIECES_PER_PIXEL = 32
SEGMENTS = 64
MARGIN = 4.0  # of a double-size drawing, in its pixels: room for its blur


@dataclass(frozen=True, eq=False)
class StraightMotionBlur(Blur):
    """The camera moved along a straight line at constant speed."""

    length: float = option(
        15.0, "Length of the line in pixels; 0 is no blur.", min=0.0, max=255.0, step=0.5
    )
    angle: float = option(
        0.0,
        "Direction in degrees, counter-clockwise: 0 is level, 90 upright.",
        min=-360.0,
        max=360.0,
        step=1.0,
    )

    def kernel(self) -> Tensor:
        """(k, k) with k = 2 ceil(length / 2) + 1: the line about the middle, antialiased."""
        radius = math.ceil(self.length / 2)
        pieces = max(1, math.ceil(self.length * PIECES_PER_PIXEL))
        along = ((torch.arange(pieces, dtype=torch.float64) + 0.5) / pieces - 0.5) * self.length
        turn = math.radians(self.angle)
        rows, columns = radius - along * math.sin(turn), radius + along * math.cos(turn)
        k = drawn(rows, columns, 2 * radius + 1)
        return (k / k.sum()).float()


@dataclass(frozen=True, eq=False)
class RandomMotionBlur(Blur):
    """The camera shook: a random walk, one per seed.

    In the spirit of the generator that the papers use (LeviBorodenko/motionblur), with an algorithm
    and random numbers of our own: its seeds give other kernels than ours. The walk's heading turns
    to one side for a while, then to the other; the kernel is drawn at double size, blurred by a
    pixel's width, and averaged down.
    """

    side: int = option(
        61, "Side of the kernel in pixels, odd; the path fills it loosely.", min=3, max=255, step=2
    )
    intensity: float = option(
        0.5,
        "How much the camera shook: 0 is a straight line, 1 a tangle. 0.5 in the papers.",
        min=0.0,
        max=1.0,
        step=0.05,
    )
    seed: int = option(0, "Random seed of the walk.", min=0, max=2**64 - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.side % 2 == 0:
            raise ValueError(
                f"RandomMotionBlur.side is {self.side}; give an odd number such as "
                f"{self.side + 1}, so that the kernel has a centre."
            )

    def kernel(self) -> Tensor:
        """(side, side)."""
        return walk_kernel(self.side, self.intensity, self.seed)


def walk_kernel(side: int, intensity: float, seed: int) -> Tensor:
    """The kernel of one random walk, (side, side) float32 with sum 1."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = random_walk(2 * side * math.sqrt(2), intensity, generator)
    rows, columns = (centred(p, side) for p in (rows, columns))
    light = F.avg_pool2d(blurred(drawn(rows, columns, 2 * side))[None], 2)[0]
    return (light / light.sum()).float()


def random_walk(
    diagonal: float, intensity: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Rows and columns of points along a walk at even times, (P,) float64 each, from (0, 0).

    diagonal: of the drawing, in pixels; the walk is a quarter to three quarters of it long.
    intensity: in [0, 1]; scales the turn at each of the 64 joints.
    """

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    length = diagonal * (0.25 + 0.5 * float(uniform()))
    steps = 0.5 + uniform(SEGMENTS)  # each takes as long as the others, so slow ones are bright
    steps = length * steps / steps.sum()
    persistence = 0.04 + 0.16 * float(uniform())  # chance to change sides at a joint
    sides = torch.where(uniform(SEGMENTS) < persistence, -1.0, 1.0).cumprod(0)
    largest = intensity * math.pi / 16 * (1 + float(uniform()))
    turns = largest * sides * uniform(SEGMENTS).sqrt()
    heading = 2 * math.pi * uniform() + turns.cumsum(0)
    pieces = max(1, math.ceil(PIECES_PER_PIXEL * length / SEGMENTS))
    share = (torch.arange(pieces, dtype=torch.float64) + 0.5) / pieces
    points = []
    for step in (steps * heading.sin(), steps * heading.cos()):
        start = step.cumsum(0) - step
        points.append((start[:, None] + share * step[:, None]).flatten())
    return points[0], points[1]


def centred(position: Tensor, side: int) -> Tensor:
    """Positions along one axis with their mean in the middle of 2 side pixels, shrunk to fit."""
    middle = side - 0.5
    offset = position - position.mean()
    room = max(middle - MARGIN, 0.0)
    return middle + offset * min(1.0, room / max(float(offset.abs().max()), 1e-12))


def drawn(rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """One unit of light per point, shared bilinearly by the four pixels around it.

    rows, columns: (P,) positions in pixels, 0 .. side - 1 (pixel centres are whole numbers).
    Returns (side, side) float64 with sum P.
    """
    light = rows.new_zeros(side, side)
    top, left = rows.floor(), columns.floor()
    down, right = rows - top, columns - left
    for i, row_weight in ((0, 1 - down), (1, down)):
        for j, column_weight in ((0, 1 - right), (1, right)):
            index = ((top.long() + i).clamp(0, side - 1), (left.long() + j).clamp(0, side - 1))
            light.index_put_(index, row_weight * column_weight, accumulate=True)
    return light


def blurred(light: Tensor) -> Tensor:
    """A Gaussian of one pixel's standard deviation along both axes, zeros beyond the edge."""
    g = gaussian_weights(1.0).to(light)
    along_columns = F.conv1d(light[:, None], g[None, None], padding="same")[:, 0]
    return F.conv1d(along_columns.T[:, None], g[None, None], padding="same")[:, 0].T
