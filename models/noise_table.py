"""The noise levels of networks that were trained at discrete timesteps, and the way back.

Reference: Ho et al., "Denoising Diffusion Probabilistic Models", 2020 (arXiv 2006.11239); Rombach
et al., "High-Resolution Image Synthesis with Latent Diffusion Models", 2022 (arXiv 2112.10752).
"""

from __future__ import annotations

import torch
from torch import Tensor

TIMESTEPS = 1000
BETAS = (1e-4, 0.02)  # of DDPM, linear
SD_BETAS = (0.00085, 0.012)  # of Stable Diffusion 1 and 2, linear in their square roots


def vp_sigmas(precision: torch.dtype = torch.float64) -> Tensor:
    """s_t of DDPM's variance-preserving table (Ho et al., 2020, arXiv 2006.11239), t = 0 .. 999.

    beta_t = linspace(1e-4, 0.02, 1000), abar_t = prod_{u <= t} (1 - beta_u); see `sigmas_of`. It
    rises from 0.0100 to 157.4.

    precision: of 1 - beta_t and of the product. float64 is the exact table. float32 is what the
    official SubDAPS loop computes with: 1 - beta_0 is then so coarse that s_0 comes out larger by
    8e-5 of itself, which moves the noise grid. Of its 100 steps one (i = 91) rounds to t = 9 with
    the exact table and to t = 10 with theirs, and the trajectory corrector differs by 4e-5, so
    agreement with published runs needs float32.
    Returns (1000,) float64, ascending, whatever the precision.
    """
    betas = torch.linspace(*BETAS, TIMESTEPS, dtype=precision)
    return sigmas_of((1 - betas).cumprod(0))


def stable_diffusion_sigmas() -> Tensor:
    """s_t of Stable Diffusion 1 and 2 ("scaled linear"), t = 0 .. 999, from 0.0292 to 14.61.

    beta_t = linspace(sqrt(0.00085), sqrt(0.012), 1000)^2, abar_t = prod_{u <= t} (1 - beta_u); see
    `sigmas_of`. Returns (1000,) float64, ascending.
    """
    first, last = SD_BETAS
    betas = torch.linspace(first**0.5, last**0.5, TIMESTEPS, dtype=torch.float64).square()
    return sigmas_of((1 - betas).cumprod(0))


def sigmas_of(abar: Tensor) -> Tensor:
    """s_t = sqrt(1 - abar_t) / sqrt(abar_t): the noise level of x_t / sqrt(abar_t) = x0 + s_t n.

    abar: (T,), falling within (0, 1). Returns (T,) float64, ascending, standard deviations in the
    units of x0.
    """
    abar = abar.double()
    return (1 - abar).sqrt() / abar.sqrt()


def timestep_of(sigma: Tensor, sigmas: Tensor) -> Tensor:
    """The time of a noise level, interpolated linearly in log sigma between those of a table.

    sigma: (B,), each above 0; sigmas: (T,) ascending, T >= 2, such as `vp_sigmas()`.
    Returns (B,) times in [0, T - 1], in the dtype and on the device of `sigma`: exactly t at
    sigmas[t] (rounded to that dtype), and the nearer end for a noise level outside the table.
    """
    table = sigmas.to(sigma.dtype).to(sigma.device)
    above = torch.searchsorted(table, sigma.contiguous()).clamp(1, len(table) - 1)
    low, high = table[above - 1], table[above]
    share = (sigma / low).log() / (high / low).log()
    return above - 1 + share.clamp(0, 1)
