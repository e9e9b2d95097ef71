"""What a kernel explains of a blurred picture, by the sharp picture that the prior draws for it."""

from __future__ import annotations

import torch
from torch import Tensor

from ...models.prior import Prior
from ..level import canvas_size
from ..measurement import Measurement
from ..noise import Noise
from ..operators.canvas import pad_reflect
from ..updates.conjugate_gradient import ConjugateGradient
from .kernel_estimation import Level
from .kernel_update import GradientFit, luminance
from .seen import observed_blur

SIGMAS = (0.5, 0.25)  # of the sampler's steps
TRUST = 0.015  # noise level believed, at least
UPDATE = ConjugateGradient(iterations=8)


def drawn(noise: Noise, like: Tensor) -> list[Tensor]:
    """The noise of the steps, drawn once so that kernels are compared under the same."""
    return [noise(like) for _ in SIGMAS]


def explained(
    prior: Prior, level: Level, kernel: Tensor, noise_level: float, noises: list[Tensor]
) -> tuple[float, GradientFit]:
    """What a kernel leaves unexplained of the gradients by a picture that the prior finds sharp,
    and the problem of the kernel for that picture."""
    x = sharp(prior, level, kernel, max(noise_level, TRUST), noises)
    fit = GradientFit(luminance(x), luminance(level.y), level.side, level.seen[..., :-1, :-1])
    return fit.misfit(kernel), fit


def sharp(
    prior: Prior, level: Level, kernel: Tensor, trust: float, noises: list[Tensor]
) -> Tensor:
    """A picture that the kernel allows, from the posterior under the believed noise level."""
    operator = observed_blur(kernel, level.clipped)
    measurement = Measurement(operator.observe(level.y), operator, trust)
    x = level.y
    for sigma, n in zip(SIGMAS, noises, strict=True):
        x0_y = UPDATE(x, sigma, measurement)
        x = denoised(prior, x0_y + sigma * n, sigma)
    return x


def denoised(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """The prior's prediction for a picture of any size."""
    height, width = x.shape[-2:]
    canvas = canvas_size((height, width), prior.spec.multiple_of)
    level = torch.full((x.shape[0],), sigma, device=x.device)
    return prior.denoise(pad_reflect(x, *canvas), level)[..., :height, :width]
