"""Noise levels of networks that were trained at discrete timesteps."""

from __future__ import annotations

import torch
from torch import Tensor

TIMESTEPS = 1000
BETA_FIRST, BETA_LAST = 1e-4, 0.02


def vp_sigmas(precision: torch.dtype = torch.float64) -> Tensor:
    """s_t of DDPM's variance-preserving table (Ho et al., 2020, arXiv 2006.11239), t = 0 .. 999.

    beta_t = linspace(1e-4, 0.02, 1000), abar_t = prod_{u <= t} (1 - beta_u),
    s_t = sqrt(1 - abar_t) / sqrt(abar_t): the noise level of x_t / sqrt(abar_t) = x0 + s_t n, a
    standard deviation in [-1, 1] units, rising from 0.0100 to 157.4.

    precision: of 1 - beta_t and of the product. float64 is the exact table. float32 is what the
    official SubDAPS loop computes with: 1 - beta_0 is then so coarse that s_0 comes out larger by
    8e-5 of itself, which moves the noise grid. Of its 100 steps one (i = 91) rounds to t = 9 with
    the exact table and to t = 10 with theirs, and the trajectory corrector differs by 4e-5, so
    agreement with published runs needs float32.
    Returns (1000,) float64, ascending, whatever the precision.
    """
    betas = torch.linspace(BETA_FIRST, BETA_LAST, TIMESTEPS, dtype=precision)
    abar = (1 - betas).cumprod(0).double()
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
