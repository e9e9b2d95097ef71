"""Codec: between pixels and the space a prior works in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Codec(Protocol):
    """Pixels <-> latent. `factor` is how many pixels one latent pixel spans along a side."""

    factor: int

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, c, H / factor, W / factor)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, factor h, factor w) in [-1, 1]."""
        ...


class Identity:
    """The codec of a pixel prior: the latent is the picture."""

    factor = 1

    def encode(self, image: Tensor) -> Tensor:
        """The image."""
        return image

    def decode(self, z: Tensor) -> Tensor:
        """The image."""
        return z
