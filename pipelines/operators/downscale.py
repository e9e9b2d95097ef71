"""Antialiased reduction by any factor, separable: A x = D_h x D_w^T."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..options import Options, option
from .banded import Banded, banded
from .canvas import reflected_index
from .contract import Operator


@dataclass(frozen=True, eq=False)
class Downscale(Options, Operator):
    """Every output pixel is a weighted mean of the pixels around its centre.

    An axis of n pixels becomes one of m = n / f, rounded, and is reduced s = n / m times, which is
    f wherever f divides n: the small picture shows all of the large one, whatever the size. Output
    i is centred at s i + (s - 1) / 2; pixel j weighs w((j - centre) / s), the weights of one output
    sum to 1, and borders are reflected at half samples. "bicubic" is Keys' kernel with a = -0.5
    widened by s (the Resizer of the official SubDAPS code, equal to 3e-7), "bilinear" the triangle,
    "area" the plain mean over s x s pixels, of which those at its rim count in part.
    The picture that a measurement of m pixels is of has m f, rounded, where nothing else is known.
    """

    factor: float = option(
        4.0,
        "How many times smaller each side becomes; 1.5 and others between whole numbers, too.",
        min=1.01,
        max=8.0,
        step=0.1,
    )
    kernel: str = option(
        "bicubic",
        "The antialiasing filter; bicubic is what the papers use.",
        choices=("bicubic", "area", "bilinear"),
    )
    about: ClassVar[str] = (
        "A picture made smaller by any factor, antialiased. The measurement of super-resolution: "
        "what is restored from a small picture is one that becomes it when made smaller."
    )
    aliases: ClassVar[tuple[str, ...]] = (
        "super-resolution",
        "upscale",
        "enlarge",
        "reduce",
        "resize",
        "low resolution",
    )
    structure: ClassVar[frozenset[str]] = frozenset({"separable"})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / f, W / f), rounded."""
        height, width = x.shape[-2:]
        return self._axis(width, x).on_columns(self._axis(height, x).on_rows(x))

    def check_size(self, height: int, width: int) -> None:
        """Raise `ValueError` for H or W below f."""
        if min(height, width) < nearest(self.factor):
            raise ValueError(
                f"The image is {width}x{height} pixels, too small to reduce {self.factor:g} times; "
                "choose a larger picture or a smaller factor."
            )

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(A x, u -> D_h^T u D_w), by the transposed matrices' own blocks."""
        height, width = x.shape[-2:]
        rows, columns = self._axis(height, x, True), self._axis(width, x, True)
        return self(x), lambda u: rows.on_rows(columns.on_columns(u))

    def _axis(self, size: int, like: Tensor, transposed: bool = False) -> Banded:
        """D of one axis, (size / f, size), or D^T, of `like`'s dtype and device."""

        def made() -> Banded:
            d = self._reduction(size)
            return banded(d.T if transposed else d, like)

        return self.constant((size, like.dtype, like.device, transposed), made)

    def _reduction(self, size: int) -> Tensor:
        """(size / f, size) float64: row i has the taps of output i, reflected at the borders."""
        weight, radius = KERNELS[self.kernel]
        count = nearest(size / self.factor)
        s = size / count
        centre = s * torch.arange(count, dtype=torch.float64)[:, None] + (s - 1) / 2
        reach = math.ceil(radius * s) + 1
        position = centre.floor() + torch.arange(-reach, reach + 1, dtype=torch.float64)
        taps = weight(position - centre, s)
        index = reflected_index(-reach - 1, size + reach + 2, size)
        columns = index[(position + reach + 1).long()]
        rows = torch.arange(count)[:, None].expand_as(columns)
        empty = torch.zeros(count, size, dtype=torch.float64)
        taps = taps / taps.sum(1, keepdim=True)
        return empty.index_put((rows, columns), taps, accumulate=True)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(f h, f w), rounded."""
        return nearest(height * self.factor), nearest(width * self.factor)

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """D_h and D_w."""
        return self._reduction(height), self._reduction(width)


def nearest(x: float) -> int:
    """The nearest whole number, the larger of two that are as near."""
    return math.floor(x + 0.5)


def keys_cubic(d: Tensor, s: float) -> Tensor:
    """Keys' cubic kernel of t = d / s with a = -0.5, zero beyond |t| = 2."""
    t = (d / s).abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t <= 2, far, 0.0))


def triangle(d: Tensor, s: float) -> Tensor:
    """1 - |t| of t = d / s, zero beyond |t| = 1."""
    return (1 - (d / s).abs()).clamp(min=0)


def box(d: Tensor, s: float) -> Tensor:
    """How much of a pixel lies within s / 2 of the centre."""
    return ((s + 1) / 2 - d.abs()).clamp(0, 1)


KERNELS: dict[str, tuple[Callable[[Tensor, float], Tensor], float]] = {
    "bicubic": (keys_cubic, 2.0),
    "bilinear": (triangle, 1.0),
    "area": (box, 0.5),
}
