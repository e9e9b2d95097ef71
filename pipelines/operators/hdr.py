"""Clipped highlights and shadows: A x = clip(g x, -1, 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..options import Options, option
from .contract import Operator


@dataclass(frozen=True, eq=False)
class HDRClip(Options, Operator):
    """High dynamic range: contrast multiplied about mid grey, then clipped to [-1, 1]."""

    gain: float = option(
        2.0, "How many times the contrast was raised.", min=1.0, max=16.0, step=0.1
    )
    about: ClassVar[str] = (
        "Contrast raised until highlights and shadows clip. Undoing it is high dynamic range "
        "recovery."
    )
    aliases: ClassVar[tuple[str, ...]] = ("overexposure", "clipping", "high dynamic range")
    linear: ClassVar[bool] = False
    smooth: ClassVar[bool] = False
    structure: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """clip(gain x, -1, 1)."""
        return (self.gain * x).clamp(-1, 1)

    def surrogate(self, x: Tensor) -> Tensor:
        """v = gain x inside +-1, sign(v) (1 + tanh(|v| - 1)) outside: slope > 0 everywhere.

        Written as c + tanh(v - c) with c = clip(v, -1, 1). The official code measures its line
        search with this and its gradient with the clip.
        """
        v = self.gain * x
        c = v.clamp(-1, 1)
        return c + torch.tanh(v - c)

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The surrogate's slope times v: gain / cosh^2(|gain x| - 1), at most gain.

        In closed form: the derived one takes five times as long.
        """
        beyond = ((self.gain * x).abs() - 1).clamp(min=0)
        return self.gain * (1 - torch.tanh(beyond).square()) * v

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The clip's own slope: gain where nothing is clipped, otherwise 0."""
        slope = self.gain * ((self.gain * x).abs() <= 1)
        return self(x), lambda u: slope * u

    def guess(self, y: Tensor) -> Tensor:
        """y / gain: right wherever nothing was clipped."""
        return y / self.gain
