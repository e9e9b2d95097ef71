"""From the sampler's canvas to the picture: nearest upsampling, then a crop.

A sampler works on a canvas whose sides are multiples of what the network and the levels need, at a
fraction of its size in the early steps. These two operators carry that state to the picture that
the degradation acts on; `pad_reflect` and `pool` go the other way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .operator import Operator

ANY_STRUCTURE = frozenset({"one_to_one", "circulant", "separable"})


@dataclass(frozen=True, eq=False)
class NearestUpsample(Operator):
    """U of SubDAPS++: every pixel becomes a factor x factor block. U^T U = factor^2 I."""

    factor: int
    structure: ClassVar[frozenset[str]] = ANY_STRUCTURE

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, factor h, factor w)."""
        return upsample(x, self.factor)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size before enlarging."""
        return height // self.factor, width // self.factor

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
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
        """(B, C, H', W') -> (B, C, height, width). Raises `ValueError` for a smaller canvas."""
        if x.shape[-2] < self.height or x.shape[-1] < self.width:
            raise ValueError(
                f"The canvas is {x.shape[-1]}x{x.shape[-2]} pixels; it must be "
                f"{self.width}x{self.height} or larger to be cropped to the picture."
            )
        return x[..., : self.height, : self.width]

    def matrices(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """The first rows of the identity."""
        rows, columns = (torch.eye(n, dtype=torch.float64) for n in (height, width))
        return rows[: self.height], columns[: self.width]


def upsample(x: Tensor, factor: int) -> Tensor:
    """Nearest-neighbour enlargement by an integer, (B, C, h, w) -> (B, C, factor h, factor w)."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=factor, mode="nearest")


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
