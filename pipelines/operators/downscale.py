"""Antialiased reduction by an integer factor, separable: A x = D_h x D_w^T."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..options import Options, option
from .canvas import reflected_index
from .operator import Operator


@dataclass(frozen=True, eq=False)
class Downscale(Options, Operator):
    """Every output pixel is a weighted mean of the pixels around its centre.

    Output i is centred at f i + (f - 1) / 2; pixel j weighs w((j - centre) / f), the weights of one
    output sum to 1, and borders are reflected at half samples. "bicubic" is Keys' kernel with
    a = -0.5 widened by f (the Resizer of the official SubDAPS code, equal to 3e-7), "bilinear" the
    triangle, "area" the plain mean of f x f pixels.
    """

    factor: int = option(4, "How many times smaller each side becomes.", min=2, max=8, step=1)
    kernel: str = option(
        "bicubic",
        "The antialiasing filter; bicubic is what the papers use.",
        choices=("bicubic", "area", "bilinear"),
    )
    structure: ClassVar[frozenset[str]] = frozenset({"separable"})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / f, W / f). Raises `ValueError` when f does not divide H and
        W."""
        height, width = x.shape[-2:]
        if height % self.factor or width % self.factor:
            f = self.factor
            if min(height, width) < f:
                raise ValueError(
                    f"The image is {width}x{height} pixels, too small to reduce {f} times; choose "
                    "a larger picture or a smaller factor."
                )
            raise ValueError(
                f"The image is {width}x{height} pixels, which {f} does not divide; crop it to "
                f"{width - width % f}x{height - height % f} or choose another factor."
            )
        rows = self._matrix(height, x)
        columns = rows if width == height else self._matrix(width, x)
        return rows @ x @ columns.T

    def _matrix(self, size: int, like: Tensor) -> Tensor:
        """D of one axis, (size / f, size), of `like`'s dtype and device.

        Two dense products cost less than gathering or convolving: 0.2 ms against 2.5 ms for
        256x256 colour, 0.07 s for 2048x1536 (one thread).
        """
        key = (size, like.dtype, like.device)
        return self.constant(key, lambda: self._reduction(size).to(like))

    def _reduction(self, size: int) -> Tensor:
        """(size / f, size) float64: row i has the taps of output i, reflected at the borders."""
        taps, start = self._taps()
        position = reflected_index(start, start + size - self.factor + len(taps), size)
        columns = position.unfold(0, len(taps), self.factor)
        rows = torch.arange(size // self.factor)[:, None].expand_as(columns)
        empty = torch.zeros(size // self.factor, size, dtype=torch.float64)
        return empty.index_put((rows, columns), taps.expand(columns.shape), accumulate=True)

    def _taps(self) -> tuple[Tensor, int]:
        """Weights of one output pixel, (T,) float64 with sum 1, and where output 0's window
        starts."""
        weight, radius = KERNELS[self.kernel]
        centre = (self.factor - 1) / 2
        reach = int(radius * self.factor + centre)
        position = torch.arange(-reach, self.factor + reach, dtype=torch.float64)
        taps = weight((position - centre) / self.factor)
        inside = (taps != 0).nonzero()  # the cubic is zero in places between the two ends, too
        first, last = int(inside[0]), int(inside[-1])
        return (taps / taps.sum())[first : last + 1], first - reach

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(f h, f w)."""
        return height * self.factor, width * self.factor

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """D_h and D_w."""
        return self._reduction(height), self._reduction(width)


def keys_cubic(t: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, zero beyond |t| = 2."""
    t = t.abs()
    near = 1.5 * t**3 - 2.5 * t**2 + 1
    far = -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return torch.where(t <= 1, near, torch.where(t <= 2, far, 0.0))


def triangle(t: Tensor) -> Tensor:
    """1 - |t|, zero beyond |t| = 1."""
    return (1 - t.abs()).clamp(min=0)


def box(t: Tensor) -> Tensor:
    """1 inside |t| < 1/2."""
    return (t.abs() < 0.5).to(t)


KERNELS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "bicubic": (keys_cubic, 2.0),
    "bilinear": (triangle, 1.0),
    "area": (box, 0.5),
}
