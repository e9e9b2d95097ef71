"""What SIGMAS and a MODEL say of a region-adaptive run inside ComfyUI's sampling nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from ...models.noise_table import stable_diffusion_sigmas
from ...pipelines.adadiffsr.step_policy import StepPolicy
from ...pipelines.adadiffsr.trained_gain import GainMaps

PIXELS = 8  # of a picture along a latent pixel, as ComfyUI counts them everywhere


def checked(sigmas: Tensor, noise: Tensor) -> tuple[float, ...]:
    """The base grid, without the final 0. Raises `ValueError` for what cannot be sampled."""
    levels = sigmas.cpu().double().tolist()
    falling = all(a > b for a, b in pairwise(levels))
    if len(levels) < 2 or levels[-1] != 0 or not falling:
        said = ", ".join(f"{level:.4g}" for level in [*levels[:2], *levels[-1:]])
        raise ValueError(
            f"The {len(levels)} SIGMAS ({said}) do not fall to 0; regions go down to 0 each on "
            "their own, so give all steps to the end, such as Basic Scheduler's."
        )
    if noise.ndim != 4:
        raise ValueError(
            f"The latent has {noise.ndim} dimensions, as for videos or sound; regions are tiles of "
            "a picture, with 4."
        )
    return tuple(levels[:-1])


def near(a: float, b: float) -> bool:
    """Whether two levels are one, in float32."""
    return math.isclose(a, b, rel_tol=1e-4)


def half_of(sampling: Any, flow: bool) -> float:
    """The noise level at timestep T / 2."""
    if flow:
        return 0.5
    discrete = hasattr(sampling, "num_timesteps")
    table = sampling.sigmas if discrete else stable_diffusion_sigmas()
    return table[len(table) // 2].item()


def on_grid(policy: StepPolicy, sigmas: Tensor) -> StepPolicy:
    """The policy; its calibration may be of the same levels in another precision."""
    levels, known = tuple(sigmas.tolist()), policy.spans
    if known and len(known.sigmas) == len(levels) and all(map(near, known.sigmas, levels)):
        return replace(policy, spans=replace(known, sigmas=levels))
    return policy


def check_regressor(regressor: GainMaps, name: str, channels: int, flow: bool) -> None:
    """Raise `ValueError` for a regressor of other states than a model's, of `channels`.

    Whether it was trained with this very model cannot be seen here: networks have other tensors in
    ComfyUI than in the folder that the training reads.
    """
    own, trained = getattr(regressor, "channels", channels), regressor.trained
    if own != channels:
        raise ValueError(
            f"The regressor was trained with {trained.prior} on states of {own} channels, and "
            f"{name} has {channels}; choose one that was trained with this model, or leave "
            "regressor empty."
        )
    if flow:
        raise ValueError(
            f"The regressor was trained with {trained.prior}, a diffusion model, and {name} is a "
            "flow model; leave regressor empty."
        )
