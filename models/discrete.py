"""Networks that were trained at discrete timesteps: their noise levels, and the Prior they become.

Reference: Ho et al., "Denoising Diffusion Probabilistic Models", 2020 (arXiv 2006.11239);
v-prediction: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models",
2022 (arXiv 2202.00512).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .codec import Codec, Identity
from .prior import PriorSpec

TIMESTEPS = 1000
BETA_FIRST, BETA_LAST = 1e-4, 0.02
PREDICTIONS = ("epsilon", "v_prediction", "sample")  # by diffusers' names


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
    betas = torch.linspace(BETA_FIRST, BETA_LAST, TIMESTEPS, dtype=precision)
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


@dataclass(frozen=True, eq=False)
class DiscretePrior:
    """A network of discrete times t = 0, 1, .. as a Prior.

    With x_vp = x / sqrt(1 + sigma^2) and f = network(x_vp, t) it is, by `prediction`,

        epsilon         x0_hat = x - sigma f
        v_prediction    x0_hat = x / (1 + sigma^2) - sigma f / sqrt(1 + sigma^2)
        sample          x0_hat = f

    network: (x_vp (B, C, h, w), t (B,)) -> an object with `.sample`, (B, C or more, h, w), as
    diffusers' are; channels after the C-th are a learned variance, which no sampler here uses. It
    runs in the dtype of its own weights; states stay float32.
    spec: its `sigmas` are the noise levels of t = 0, 1, ..; clip: x0_hat is held within [-clip,
    clip], or left alone where None.
    """

    network: torch.nn.Module
    spec: PriorSpec
    prediction: str = "epsilon"
    clip: float | None = 1.0
    codec: Codec = field(default_factory=Identity)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat, (B, C, h, w) float32; see `Prior`. `factor` plays no part: the network is
        convolutional, and sees the resolution in the picture only.
        """
        dtype = next(self.network.parameters()).dtype
        sigma = sigma.to(x)
        s = sigma[:, None, None, None]
        norm = (1 + s**2).sqrt()
        t = timestep_of(sigma, self.spec.sigmas)  # type: ignore[arg-type]
        f = self.network((x / norm).to(dtype), t).sample[:, : x.shape[1]].float()
        if self.prediction == "epsilon":
            x0_hat = x - s * f
        elif self.prediction == "v_prediction":
            x0_hat = (x / norm - s * f) / norm
        else:
            x0_hat = f
        return x0_hat if self.clip is None else x0_hat.clamp(-self.clip, self.clip)
