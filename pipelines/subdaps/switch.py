"""When a sampler stops adding noise: the stochastic-to-deterministic switch of SubDAPS++.

A switch rule is asked after every measurement update at full resolution and answers per sample
whether the next state keeps the old state's noise (deterministic) or draws anew (stochastic).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ..measurement import Measurement
from ..noise import per_sample_noise
from ..options import Options, option
from ..sums import mean_square
from ..updates.update import MeasurementUpdate, Surroundings


@dataclass(frozen=True, eq=False)
class Updated:
    """One measurement update, as a switch rule sees it; tensors are (B, C, H, W), r is the
    update's."""

    x0_hat: Tensor
    x0_y: Tensor
    r: float
    measurement: Measurement
    update: MeasurementUpdate
    around: Surroundings

    @property
    def move(self) -> Tensor:
        """(B,): mean((x0_hat - x0_y)^2)."""
        return mean_square(self.x0_hat - self.x0_y)


@runtime_checkable
class SwitchRule(Protocol):
    """`Updated` -> (B,) bool, True where the step shall be deterministic."""

    def __call__(self, updated: Updated) -> Tensor:
        """True for the samples whose next step adds no noise."""
        ...


def never(updated: Updated) -> Tensor:
    """Stochastic to the end: SubDAPS and DAPS."""
    return torch.zeros(updated.x0_hat.shape[0], dtype=torch.bool, device=updated.x0_hat.device)


@dataclass(frozen=True)
class FixedThreshold(Options):
    """Deterministic where mean((x0_hat - x0_y)^2) < threshold, as the official code decides it.

    The paper writes a squared norm; its code takes the mean per element, and so do we. Like the
    official switch it is not sticky: a later, larger move re-noises again.
    """

    threshold: float = option(
        1e-5,
        "tau: 1e-5 for inpainting, super-resolution and HDR, 1e-4 for Gaussian and nonlinear, "
        "3e-4 for motion blur in the official table; 0 never switches.",
        min=0.0,
        max=10.0,
        step=1e-6,
    )

    def __call__(self, updated: Updated) -> Tensor:
        """move < threshold."""
        return updated.move < self.threshold


@dataclass(frozen=True)
class NoiseFloor(Options):
    """Deterministic where the measurement moves the prediction no more than its own noise would.

    The paper names the threshold's tuning per task as its open problem. What the move would be if
    the prediction were perfect can be computed: update the prediction against a measurement made of
    itself, y' = A(x0_hat) + noise_level n'. Once

        mean((x0_hat - x0_y)^2) <= ratio * mean((x0_hat - x0'_y)^2)

    the update has nothing left to say but noise. Task, operator, noise level and number of CG steps
    all enter through y', so `ratio` has the same meaning for every task. Costs one more update a
    step.
    The default is one half: in a good run the prediction has already fitted part of the noise, so
    that its residual lies below the floor, and a ratio of 1 ends the noise too early.
    """

    ratio: float = option(
        0.5,
        "How many times the move that noise alone would cause still counts as noise.",
        min=0.0,
        max=100.0,
        step=0.1,
    )

    def __call__(self, updated: Updated) -> Tensor:
        """move <= ratio * (the move under noise alone).

        Raises `ValueError` for an update through the network, which cannot be repeated here.
        """
        if updated.update.through_network:
            raise ValueError(
                "The adaptive switch repeats the measurement update, but the likelihood gradient "
                "cannot be repeated without the network; choose a fixed threshold."
            )
        x0_hat, m = updated.x0_hat, updated.measurement
        noise = per_sample_noise([0] * x0_hat.shape[0])
        clean = m.operator(x0_hat)
        own = Measurement(clean + m.noise_level * noise(clean), m.operator, m.noise_level)
        around = replace(updated.around, noise=noise)
        expected = mean_square(x0_hat - updated.update(x0_hat, updated.r, own, around))
        return updated.move <= self.ratio * expected
