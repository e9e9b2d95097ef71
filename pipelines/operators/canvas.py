"""From the sampler's canvas to the picture: nearest upsampling, then a crop.

A sampler works on a canvas whose sides are multiples of what the network and the levels need, at a
fraction of its size in the early steps. These two operators carry that state to the picture that
the degradation acts on; `pad_reflect` and `pool` go the other way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .contract import Operator

ANY_STRUCTURE = frozenset({"one_to_one", "circulant", "separable"})


@dataclass(frozen=True, eq=False)
class NearestUpsample(Operator):
    """U of SubDAPS++: every pixel becomes a factor x factor block. U^T U = factor^2 I."""

    factor: int
    structure: ClassVar[frozenset[str]] = ANY_STRUCTURE

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, factor h, factor w)."""
        return upsample(x, self.factor)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """U x and u -> U^T u, the sums of blocks: twice as fast as the derived one."""
        return self(x), lambda u: block_sum(u, self.factor)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size before enlarging."""
        return height // self.factor, width // self.factor

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Each row of the identity, `factor` times."""
        rows, columns = (torch.eye(n, dtype=torch.float64) for n in (height, width))
        return rows.repeat_interleave(self.factor, 0), columns.repeat_interleave(self.factor, 0)


@dataclass(frozen=True, eq=False)
class Crop(Operator):
    """The top left height x width window of a larger canvas."""

    height: int
    width: int
    structure: ClassVar[frozenset[str]] = frozenset({"one_to_one", "separable"})

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H', W') -> (B, C, height, width)."""
        return x[..., : self.height, : self.width]

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The first rows of the identity."""
        rows, columns = (torch.eye(n, dtype=torch.float64) for n in (height, width))
        return rows[: self.height], columns[: self.width]

    def check_size(self, height: int, width: int) -> None:
        """Raise `ValueError` for a canvas that is smaller than the window."""
        if height < self.height or width < self.width:
            raise ValueError(
                f"The canvas is {width}x{height} pixels; it must be {self.width}x{self.height} or "
                "larger to be cropped to the picture."
            )


def upsample(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement by an integer, (B, C, h, w) -> (B, C, factor h, factor w)."""
    if factor == 1:
        return x
    b, c, h, w = x.shape  # two copies of whole rows are faster than interpolate
    wide = x[..., None].expand(b, c, h, w, factor).reshape(b, c, h, 1, w * factor)
    return wide.expand(b, c, h, factor, w * factor).reshape(b, c, h * factor, w * factor)


def block_sum(u: Tensor, factor: int) -> Tensor:
    """The adjoint of `upsample`: the sum of every factor x factor block."""
    rows = [u[..., i::factor, :] for i in range(factor)]
    u = sum(rows[1:], rows[0])
    columns = [u[..., i::factor] for i in range(factor)]
    return sum(columns[1:], columns[0])


def pool(x: Tensor, factor: int) -> Tensor:
    """Average pooling by an integer, (B, C, factor h, factor w) -> (B, C, h, w)."""
    return x if factor == 1 else F.avg_pool2d(x, factor)


def pad_reflect(x: Tensor, height: int, width: int) -> Tensor:
    """x continued to height x width at the bottom and the right by half-sample reflection.

    Any size down to 1 x 1 can be continued to any larger one: the reflection goes back and forth.
    """
    rows = reflected_index(0, height, x.shape[-2], x.device)
    columns = reflected_index(0, width, x.shape[-1], x.device)
    return x[..., rows, :][..., columns]


def reflected_index(start: int, stop: int, size: int, device: torch.device | str = "cpu") -> Tensor:
    """Indices in [0, size) of positions start .. stop - 1 of a signal reflected at -1/2 and size
    - 1/2."""
    position = torch.arange(start, stop, device=device) % (2 * size)
    return torch.minimum(position, 2 * size - 1 - position)
