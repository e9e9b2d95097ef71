"""Noise levels and resolutions of a sampling run.

Reference: Karras et al., "Elucidating the Design Space of Diffusion-Based Generative Models", 2022
(arXiv 2206.00364), Eq. 5; SubDAPS++ (arXiv 2605.14267) for the resolutions.

All noise levels are standard deviations in [-1, 1] image units, in the convention
x = x0 + sigma n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

THIRDS = (1 / 3, 2 / 3)


@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise level and the resolution of every step.

    sigmas:  (N + 1,) float64, descending at each resolution, `sigmas[N] == 0`; step i goes from
    sigmas[i] to sigmas[i+1]. Where the resolution changes they may rise as far as factors fall:
    averages over q x q pixels with noise of sigma have noise of sigma / q.
    factors: N integers; at step i the state is `factors[i]` times smaller than the picture.
             Never increasing, and 1 at the last step.
    grid:    (N,) float64, the noise levels before they were rounded to those a discrete-time
             network knows; equal to `sigmas[:N]` where nothing was rounded. Only the official
             coefficients of the trajectory corrector read it.
    Raises `ValueError` when the lengths or the order are wrong.
    """

    sigmas: Tensor
    factors: tuple[int, ...]
    grid: Tensor = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        steps = len(self.factors)
        if self.grid is None:
            object.__setattr__(self, "grid", self.sigmas[:-1])
        if steps < 1 or self.sigmas.shape != (steps + 1,) or self.grid.shape != (steps,):
            raise ValueError(
                f"A schedule of {steps} steps has {tuple(self.sigmas.shape)} noise levels; "
                "give one more noise level than steps, and at least one step."
            )
        if self.factors[-1] != 1 or any(
            a < b for a, b in zip(self.factors, self.factors[1:], strict=False)
        ):
            raise ValueError(f"Factors are {self.factors}; they must never rise and end in 1.")
        seen = self.sigmas[:-1] * torch.tensor(self.factors)  # the noise of single pixels
        if self.sigmas[-1] != 0 or not (seen > 0).all() or not (seen.diff() <= 0).all():
            raise ValueError("Noise levels must be positive, never rise and end in 0.")

    @property
    def steps(self) -> int:
        """N, the number of steps."""
        return len(self.factors)


def karras(steps: int, sigma_max: float, sigma_min: float, karras_rho: float = 7.0) -> Tensor:
    """The grid of Karras et al., Eq. 5: N noise levels from sigma_max to sigma_min.

    sigma_i = (sigma_max^(1/rho) + i / (N - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho, i = 0
    .. N-1.
    Returns (N,) float64; for N = 1 only sigma_max.
    Raises `ValueError` for N < 1 or an interval that is empty or not positive.
    """
    if steps < 1:
        raise ValueError(f"A schedule was asked for {steps} steps; give 1 or more.")
    if not 0 < sigma_min <= sigma_max or not math.isfinite(sigma_max):
        raise ValueError(
            f"The noise levels run from {sigma_max} to {sigma_min}; give sigma_max >= sigma_min > "
            "0."
        )
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / karras_rho), sigma_max ** (1 / karras_rho)
    return (high + ramp * (low - high)) ** karras_rho


def round_to(grid: Tensor, known: Tensor) -> Tensor:
    """The nearest known noise level of each grid value: argmin_t |s_t - s_i|, first index on ties.

    grid: (N,); known: (T,) ascending noise levels of a discrete-time network. Returns (N,).
    """
    return known[(grid[:, None] - known[None, :]).abs().argmin(dim=1)]


def spread_factors(
    steps: int, factors: Sequence[int] = (1,), switch_points: Sequence[float] = ()
) -> tuple[int, ...]:
    """The resolution of every step: `factors[k]` while i <= floor(N switch_points[k]).

    steps: N >= 1. factors: falling, the last is 1. switch_points: one fewer than factors, rising,
    in (0, 1). With factors (4, 2, 1) at thirds and N = 100 this gives 34, 33 and 33 steps.
    Where N is too small for every level, the coarse ones are left out first, so that the last step
    is always at full resolution (the official formula would end below it for N <= 3).
    Raises `ValueError` when the two lists do not fit.
    """
    if len(switch_points) != len(factors) - 1 or sorted(switch_points) != list(switch_points):
        raise ValueError(
            f"{len(factors)} resolutions need {len(factors) - 1} rising switch points, "
            f"but {list(switch_points)} came."
        )
    last = [
        min(math.floor(steps * point + 1e-9), steps - 1 - (len(factors) - 1 - k))
        for k, point in enumerate(switch_points)
    ]
    levels = [next((k for k, end in enumerate(last) if i <= end), len(last)) for i in range(steps)]
    return tuple(factors[k] for k in levels)
