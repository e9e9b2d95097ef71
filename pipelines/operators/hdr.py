"""Clipped highlights and shadows: A x = clip(g x, -1, 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..options import Options, option
from .operator import Operator


@dataclass(frozen=True, eq=False)
class HDRClip(Options, Operator):
    """High dynamic range: contrast multiplied about mid grey, then clipped to [-1, 1]."""

    gain: float = option(
        2.0, "How many times the contrast was raised.", min=1.0, max=16.0, step=0.1
    )
    linear: ClassVar[bool] = False
    structure: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """clip(gain x, -1, 1)."""
        return (self.gain * x).clamp(-1, 1)

    def surrogate(self, x: Tensor) -> Tensor:
        """v = gain x inside +-1, sign(v) (1 + tanh(|v| - 1)) outside: slope > 0 everywhere.

        The official code measures its line search with this and its gradient with the clip.
        """
        v = self.gain * x
        return torch.where(v.abs() <= 1, v, v.sign() * (1 + torch.tanh(v.abs() - 1)))

    def guess(self, y: Tensor) -> Tensor:
        """y / gain: right wherever nothing was clipped."""
        return y / self.gain
