"""The noise levels of a ComfyUI MODEL and of SIGMAS, checked for an inversion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.noise_table import stable_diffusion_sigmas

USE = "load SD-Turbo or another Stable Diffusion checkpoint that predicts the noise (eps)"
SAME = 1e-3  # relative difference between tables of the same noise levels


def eps_sampling(model: Any) -> Any:
    """The MODEL's `model_sampling`, with Stable Diffusion's noise levels and eps prediction.

    Raises `TypeError` for what is no MODEL, and `ValueError` for one that predicts v, flow or the
    picture, or has other noise levels.
    """
    if not hasattr(model, "get_model_object"):
        raise TypeError(f"model is of type {type(model).__name__}; connect a MODEL, {USE}.")
    sampling = model.get_model_object("model_sampling")
    if not predicts_noise(sampling):
        raise ValueError(
            f"model predicts v, flow or the picture, where InvSR needs the noise; {USE}."
        )
    table, expected = sampling.sigmas.cpu().double(), stable_diffusion_sigmas()
    if table.shape != expected.shape or bool(((table / expected - 1).abs() > SAME).any()):
        raise ValueError(
            f"model has {len(table)} noise levels from {table[0]:.4g} to {table[-1]:.4g}, not "
            f"Stable Diffusion's 1000 from {expected[0]:.4g} to {expected[-1]:.4g}; {USE}, without "
            "another sampling schedule."
        )
    return sampling


def predicts_noise(sampling: Any) -> bool:
    """Whether x0 = x - sigma eps, and the network sees x / sqrt(1 + sigma^2)."""
    one, sigma = torch.ones(1, 1, 1, 1), torch.full((1,), 2.0)
    wanted = ("calculate_denoised", "calculate_input", "timestep", "sigmas")
    if not all(hasattr(sampling, name) for name in wanted):
        return False
    x0 = sampling.calculate_denoised(sigma, one, 5 * one).item()
    seen = sampling.calculate_input(sigma, 5 * one).item()
    return abs(x0 - 3) < 1e-4 and abs(seen - 5**0.5) < 1e-4


def start_of(sigmas: Tensor) -> float:
    """The first of SIGMAS. Raises `TypeError` for no SIGMAS, `ValueError` where they do not
    fall."""
    if not isinstance(sigmas, Tensor):
        raise TypeError(
            f"sigmas is of type {type(sigmas).__name__}; connect SIGMAS such as Inversion Sigmas."
        )
    proper = sigmas.ndim == 1 and len(sigmas) > 1 and bool(torch.isfinite(sigmas).all())
    if not proper or bool((sigmas.diff() >= 0).any()) or sigmas[-1] < 0:
        said = ", ".join(f"{s:.4g}" for s in sigmas.flatten()[:6].tolist())
        raise ValueError(
            f"sigmas has shape {tuple(sigmas.shape)} and starts {said}; give at least two noise "
            "levels that fall to 0, such as Inversion Sigmas."
        )
    return sigmas[0].item()
