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
            raise ValueError(
                f"The image is {width}x{height} pixels, which {f} does not divide; crop it to "
                f"{width - width % f}x{height - height % f} or choose another factor."
            )
        return self._reduce(self._reduce(x).transpose(-1, -2)).transpose(-1, -2)

    def _reduce(self, x: Tensor) -> Tensor:
        """(..., W) -> (..., W / f): one row of windows times the taps."""
        taps, start = self._taps()
        size = x.shape[-1]
        index = reflected_index(start, start + size - self.factor + len(taps), size, x.device)
        return x[..., index].unfold(-1, len(taps), self.factor) @ taps.to(x)

    def _taps(self) -> tuple[Tensor, int]:
        """Weights of one output pixel, (T,) float64 with sum 1, and where output 0's window
        starts."""
        weight, radius = KERNELS[self.kernel]
        centre = (self.factor - 1) / 2
        reach = int(radius * self.factor + centre)
        position = torch.arange(-reach, self.factor + reach, dtype=torch.float64)
        taps = weight((position - centre) / self.factor)
        inside = taps.abs() > 1e-12
        return (taps / taps.sum())[inside], int(position[inside][0])

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(f h, f w)."""
        return height * self.factor, width * self.factor

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """D_h and D_w: the one-dimensional reduction of each unit vector."""
        eye = (torch.eye(n, dtype=torch.float64) for n in (height, width))
        rows, columns = (self._reduce(e).T.contiguous() for e in eye)
        return rows, columns


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
