"""Kernels of few parameters: a straight line, a disc, a Gaussian.

Which one blurred a picture is told by its spectrum (`spectrum`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.blur import gaussian_weights
from ..operators.motion_blur import StraightMotionBlur
from .kernel_update import correlation

DRAWN = 8  # a disc's edge is drawn with this many points a pixel


@dataclass(frozen=True)
class Shape:
    """A kind of kernel and its parameters, in pixels (degrees for the angle)."""

    kind: str
    size: float  # a line's length, a disc's radius, a Gaussian's standard deviation
    angle: float = 0.0

    def kernel(self, side: int) -> Tensor:
        """(side, side) float32 with sum 1."""
        return fitted(DRAWERS[self.kind](self), side)

    def __str__(self) -> str:
        if self.kind == "straight motion":
            return f"straight motion of {self.size:.1f} px at {self.angle % 180:.0f} degrees"
        if self.kind == "out of focus":
            return f"out of focus, a disc of radius {self.size:.1f} px"
        return f"Gaussian of standard deviation {self.size:.2f} px"


def line(shape: Shape) -> Tensor:
    """A camera's straight way."""
    return StraightMotionBlur(length=max(shape.size, 0.0), angle=shape.angle % 360).kernel()


def disc(shape: Shape) -> Tensor:
    """A lens' circle of confusion, its edge antialiased."""
    reach = math.ceil(shape.size + 0.5)
    axis = (torch.arange((2 * reach + 1) * DRAWN) + 0.5) / DRAWN - reach - 0.5
    inside = (axis[:, None].square() + axis.square() <= shape.size**2).float()
    k = F.avg_pool2d(inside[None, None], DRAWN)[0, 0]
    return k / k.sum()


def gaussian(shape: Shape) -> Tensor:
    """A Gaussian, cut off at four standard deviations."""
    g = gaussian_weights(max(shape.size, 0.1)).float()
    return g[:, None] * g


DRAWERS: dict[str, Callable[[Shape], Tensor]] = {
    "straight motion": line,
    "out of focus": disc,
    "Gaussian": gaussian,
}
REACH = {"straight motion": 1.0, "out of focus": 0.5, "Gaussian": 0.25}  # largest size over side


def fitted(k: Tensor, side: int) -> Tensor:
    """k cut off or continued by zeros to (side, side), sum 1."""
    r = (side - k.shape[-1]) // 2
    square = F.pad(k, (r, r, r, r))
    return square / square.sum()


def nearest_shape(k: Tensor, side: int) -> tuple[Shape, float]:
    """The shape that looks most like a free kernel, and their correlation."""
    best, score = Shape("Gaussian", 0.5), 0.0
    for kind, reach in REACH.items():
        sizes = [0.5 + 0.5 * i for i in range(int(2 * reach * side))]
        turns = [7.5 * i for i in range(24)] if kind == "straight motion" else [0.0]
        for size, angle in product(sizes, turns):
            shape = Shape(kind, size, angle)
            found = correlation(k.cpu(), shape.kernel(side))
            if found > score:
                best, score = shape, found
    return best, score
