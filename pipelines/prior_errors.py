"""How far a prior's predictions lie from the truth: measured on pictures that it was not made of.

    rms(sigma, factor) = sqrt(mean |D(x0 + sigma n, sigma, factor) - x0|^2)

over pictures x0 reduced `factor` times by averaging, and of RGB states its spectrum. Samplers take
it for what a prediction is worth (`subdaps/draws.py`); the papers take r = sigma for it, which for
the built-in prior is two times too much at sigma 0.05 and ten times at 2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..models.codec import Identity
from ..models.prior import ErrorCurve, Prior
from .noise import per_sample_noise
from .operators.canvas import pool
from .updates.spectral import measured_spectrum

LEVELS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 4.0, 10.0, 30.0, 80.0)
SMALLEST = 32  # pixels a side of a reduced picture; below it there is little to measure


def levels_of(prior: Prior) -> tuple[float, ...]:
    """The noise levels to measure at: those of LEVELS that the prior was trained for."""
    spec = prior.spec
    known = tuple(s for s in LEVELS if spec.sigma_min * 0.99 <= s <= spec.sigma_max * 1.01)
    return known or (spec.sigma_min, spec.sigma_max)


def errors(prior: Prior, x0: Tensor, factors: Sequence[int] = (1,)) -> Iterator[ErrorCurve]:
    """The curve so far after every network call, the last one whole.

    x0: (B, C, H, W) in [-1, 1], or a latent prior's pixels, which are encoded. factors: reductions
    to measure at; one that leaves fewer than 32 pixels is left out, and so is 2 and more for a
    latent prior. Raises `ValueError` where the pictures are too small for any.
    """
    points: dict[int, list[tuple[float, ...]]] = {}
    latent = not isinstance(prior.codec, Identity)
    for factor in factors:
        if factor > 1 and (latent or min(x0.shape[-2:]) < factor * SMALLEST):
            continue
        state = reduced(prior, x0, factor)
        noise = per_sample_noise(range(len(state)))
        for sigma in levels_of(prior):
            told = torch.full((len(state),), sigma, device=state.device)
            error = prior.denoise(state + sigma * noise(state), told, factor) - state
            row = [sigma, float(error.square().mean().sqrt())]
            if not latent and state.shape[1] == 3:
                row += [value for part in measured_spectrum(error) for value in part]
            points.setdefault(factor, []).append(tuple(row))
            yield ErrorCurve({f: tuple(p) for f, p in points.items()})


def reduced(prior: Prior, x0: Tensor, factor: int) -> Tensor:
    """The pictures as the prior's states at a reduction, cropped to sides that it takes.

    Raises `ValueError` where nothing is left.
    """
    step = factor * prior.codec.factor * prior.spec.multiple_of
    height, width = (n // step * step for n in x0.shape[-2:])
    if not height or not width:
        raise ValueError(
            f"The pictures are {x0.shape[-1]}x{x0.shape[-2]} pixels, and {prior.spec.name} needs "
            f"{step} a side or more; give larger ones."
        )
    return prior.codec.encode(pool(x0[..., :height, :width], factor))
