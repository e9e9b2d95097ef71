"""What was measured of a picture, and how."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .noise import Noise
from .operators.contract import Operator, check_image


@dataclass(frozen=True, eq=False)
class Measurement:
    """y = A(x0) + noise_level n.

    y:           (B, C, h, w) float32 in [-1, 1] units; not clipped.
    operator:    A, from images (B, C, H, W) to the shape of y.
    noise_level: standard deviation of the measurement's noise in [-1, 1] units (0.05 is 6.4 of
    255), > 0.
    size:        (H, W) of the picture that was measured, where it is known; several sizes may lead
    to the same y.
    Raises `ValueError` for a y that is not (B, C, h, w) or not finite, or a noise level that is not
    positive.
    """

    y: Tensor
    operator: Operator
    noise_level: float
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        check_image(self.y, "The measurement")
        if not isinstance(self.operator, Operator):
            raise TypeError(
                f"The measurement's operator is a {type(self.operator).__name__}; connect a "
                "degradation operator."
            )
        if not math.isfinite(self.noise_level) or self.noise_level <= 0:
            raise ValueError(
                f"The noise level is {self.noise_level}; give a number above 0 (0.01 for a clean "
                "picture), since it decides how far the measurement is trusted."
            )
        if not torch.isfinite(self.y).all():
            raise ValueError(
                "The measurement has NaN or infinite values; repair the picture first."
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) of the picture that was measured: as known, or as the operator has it."""
        return self.size or self.operator.input_size(*self.y.shape[-2:])

    @cached_property
    def beside_silence(self) -> Measurement:
        """The measurement followed by y = 0 for as many pictures more, kept with it."""
        return self.at(self.operator, torch.cat([self.y, self.silence.y]))

    @property
    def silence(self) -> Measurement:
        """That of y = 0 (`Operator.silence`)."""
        return self.at(self.operator, self.operator.silence(self.y))

    def at(self, operator: Operator, y: Tensor | None = None) -> Measurement:
        """The same of another operator, and of a y whose values were checked before: looking at
        them once more would make the host wait for a card."""
        made = copy.copy(self)
        vars(made).pop("beside_silence", None)
        vars(made).update(operator=operator, y=self.y if y is None else y)
        return made

    def sample(self, b: int) -> Measurement:
        """That of sample b alone."""
        alone = self.operator.of_sample(b, len(self.y))
        return self.at(alone, self.y[b : b + 1])


def simulate(x0: Tensor, operator: Operator, noise_level: float, noise: Noise) -> Measurement:
    """The measurement of a known picture: y = A(x0) + noise_level n.

    x0: (B, C, H, W) in [-1, 1]. Values that were not measured (hidden pixels) are 0; the official
    code leaves noise there, which no result depends on.
    """
    clean = degraded(x0, operator)
    y = operator.observe(clean + noise_level * noise(clean))
    height, width = x0.shape[-2:]
    return Measurement(y, operator, noise_level, (height, width))


def degraded(x0: Tensor, operator: Operator) -> Tensor:
    """A(x0), picture by picture where the operator is not smooth; see `apart`."""
    if operator.smooth:
        return operator(x0)
    count = len(x0)
    return torch.cat([operator.of_sample(b, count)(x) for b, x in enumerate(x0.split(1))])
