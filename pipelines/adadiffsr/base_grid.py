"""The base grid of a region-adaptive run: the noise levels that every region may visit.

Timesteps are those of a discrete-time prior's own table, or, for a continuous one, of Stable
Diffusion's (betas linear in their square roots from 0.00085 to 0.012, T = 1000), which AdaDiffSR
(ECCV 2024, arXiv 2410.17752) counts its intervals in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...models.noise_table import stable_diffusion_sigmas, timestep_of
from ...models.prior import PriorSpec
from ..options import Options, option
from ..schedule import karras


@dataclass(frozen=True)
class BaseGrid(Options):
    """The noise levels of a run: N nodes from where it starts down to the last, then 0."""

    steps: int = option(
        20,
        "Steps N of the base grid: as many as a region with detail everywhere gets. 10 or more, "
        "unless the policy skips nothing.",
        min=1,
        max=1000,
    )
    start_sigma: float = option(
        0.4,
        "Noise added to the picture before restoring it, a standard deviation in the prior's units "
        "(-1 to 1 for pixels). More lets the prior change more; 0 is the prior's largest, as in "
        "StableSR, for a prior that sees the degraded picture itself.",
        min=0.0,
        max=1000.0,
        step=0.05,
    )
    end_sigma: float = option(
        0.0,
        "Noise level of the last step; 0 is the prior's own smallest. For 'karras' only.",
        min=0.0,
        max=10.0,
        step=0.005,
        advanced=True,
    )
    spacing: str = option(
        "karras",
        "'karras' spends most steps at low noise; 'uniform' spaces timesteps evenly, as the paper "
        "does: from the largest noise with 200 steps these are its intervals of 5.",
        choices=("karras", "uniform"),
        advanced=True,
    )

    def sigmas(self, spec: PriorSpec) -> Tensor:
        """(N,) float64, descending, without the final 0.

        Raises `ValueError` for a start above what the prior knows, or not above the end.
        """
        top = spec.sigma_max if self.spacing == "karras" else table_of(spec)[-1].item()
        start = self.start_sigma or top
        if start > top * (1 + 1e-6):
            raise ValueError(
                f"start_sigma is {start:g} and {spec.name} knows noise up to {top:.4g}; give "
                f"{top:.4g} or less, or 0 for that."
            )
        if self.spacing == "uniform":
            return uniform(self.steps, start, table_of(spec))
        end = self.end_sigma or spec.sigma_min
        if end >= start:
            raise ValueError(
                f"The run starts at noise level {start:g} and ends at {end:g}; give a start_sigma "
                "above end_sigma."
            )
        return karras(self.steps, start, end)


def table_of(spec: PriorSpec) -> Tensor:
    """The noise level of every timestep, (T,) float64 ascending."""
    return stable_diffusion_sigmas() if spec.sigmas is None else spec.sigmas.cpu().double()


def half_sigma(spec: PriorSpec) -> float:
    """The noise level at timestep T / 2; at and below it the no-reference gain is valid."""
    table = table_of(spec)
    return table[len(table) // 2].item()


def uniform(steps: int, start: float, table: Tensor) -> Tensor:
    """Noise levels of N evenly spaced timesteps t_i = t_0 - i (t_0 + 1) / N from that of `start`.

    999, 994, .. 4 for 200 steps from the last of 1000 timesteps. Between two timesteps log sigma is
    interpolated linearly. Raises `ValueError` where there are fewer timesteps than steps.
    """
    first = timestep_of(torch.tensor([start], dtype=torch.float64), table).item()
    if steps > first + 1:
        raise ValueError(
            f"{steps} uniform steps were asked from noise level {start:.4g}, which is timestep "
            f"{first:.0f}; give {int(first) + 1} steps or fewer, or spacing 'karras'."
        )
    times = (first - torch.arange(steps, dtype=torch.float64) * (first + 1) / steps).clamp(min=0)
    low = times.floor().long().clamp(max=len(table) - 2)
    levels = table.log()
    return torch.lerp(levels[low], levels[low + 1], times - low).exp()
