"""What a sampler yields, one step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.sending import sent


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a sampling run; (h, w) is the canvas at this step's resolution.

    With a latent prior x, x0_hat and x0_y are latents, c x (h / f) x (w / f) with the codec's f.

    index, total:   i = 0 .. N - 1, and N.
    sigma:          noise level of `x`, a standard deviation in [-1, 1] units.
    sigma_grid:     the noise level before rounding to what the network knows (see `Schedule.grid`).
    factor:         how many times smaller than the full canvas the state is.
    x:              (B, C, h, w), the noisy state x0 + sigma n.
    x0_hat:         (B, C, h, w), the network's prediction.
    x0_y:           (B, C, h, w), the prediction after the measurement update.
    deterministic:  (B,) bool, whether the step after this one adds no new noise.
    size:           (H, W) of the picture, the canvas' top left window at full resolution.
    """

    index: int
    total: int
    sigma: float
    sigma_grid: float
    factor: int
    x: Tensor
    x0_hat: Tensor
    x0_y: Tensor
    deterministic: Tensor
    size: tuple[int, int]


Trajectory = Sequence[Step]


def column(values: Tensor | float, like: Tensor) -> Tensor:
    """(B,) or a number -> (B, 1, 1, 1) of `like`'s dtype and device, to multiply images with."""
    numbers = torch.as_tensor(values, dtype=like.dtype)
    per_sample = sent(numbers, like.device).expand(like.shape[0])
    return per_sample[:, None, None, None]
