"""Clipped pixels: A x = m x, and where a pixel is clipped there was at least as much light.

y_i = min((K x)_i, white) says of a clipped pixel that (K x)_i >= y_i, and no more. The map stays
linear, with its closed forms of speed, and what is one-sided is the misfit:

    F(z) = 1/2 sum_seen (y - A z)^2 + 1/2 sum_clipped max(0, y - A z)^2 + rho/2 |z - x0_hat|^2,

convex, and quadratic wherever no pixel passes white. Updates take its gradient from `residual`.
Conjugate gradients bound its curvature by that of all pixels (|A d|^2), so that every step of
theirs lowers F.

Equality with white would be wrong: a lamp is many times as bright, and a picture that may not be
rings around it. Black is no such bound: there is no light below none.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from .inpainting import Inpainting


@dataclass(frozen=True, eq=False)
class AtLeast(Inpainting):
    """A x = m x, of which the clipped values of y are bounds from below.

    clipped: (M, 1 or C, H, W) as `seen`, 1 where y is such a bound and 0 elsewhere; colours clip
    each by themselves.
    Raises `ValueError` as `Inpainting` does, or for a `clipped` of another shape.
    """

    clipped: Tensor = field(kw_only=True)
    structure: ClassVar[frozenset[str]] = frozenset()  # no closed form minimises F

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clipped[:, :1].shape != self.seen.shape:
            raise ValueError(
                f"clipped has shape {tuple(self.clipped.shape)} and the mask "
                f"{tuple(self.seen.shape)}; give (B, 1 or C, H, W) of one size."
            )

    @property
    def bounded(self) -> bool:
        """Always."""
        return True

    def residual(self, difference: Tensor) -> Tensor:
        """y - A z, and of clipped pixels what is positive: they are not too bright."""
        return torch.maximum(difference, self._floor(difference))

    def silence(self, y: Tensor) -> Tensor:
        """0, and -inf where a pixel is clipped: at least that says nothing.

        A clipped value has no noise that could reach a restored picture (`complement`).
        """
        return torch.where(self._floor(y) == 0, -torch.inf, torch.zeros_like(y))

    def _floor(self, like: Tensor) -> Tensor:
        """What `residual` is at least: 0 where a pixel is clipped, -inf elsewhere."""
        floor = self.constant(
            ("floor", like.dtype, like.device),
            lambda: torch.where(self.clipped > 0, 0.0, -torch.inf).to(like),
        )
        return floor if len(floor) == 1 else floor.repeat_interleave(len(like) // len(floor), 0)
