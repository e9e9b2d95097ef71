"""Networks that were trained at discrete timesteps, as a Prior.

Reference: Ho et al., "Denoising Diffusion Probabilistic Models", 2020 (arXiv 2006.11239);
v-prediction: Salimans and Ho, "Progressive Distillation for Fast Sampling of Diffusion Models",
2022 (arXiv 2202.00512).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .codec import Codec, Identity
from .noise_table import timestep_of
from .prior import PriorSpec

PREDICTIONS = ("epsilon", "v_prediction", "sample")  # by diffusers' names


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
        t = timestep_of(sigma, self._table(sigma))
        f = self.network((x / norm).to(dtype), t).sample[:, : x.shape[1]].float()
        if self.prediction == "epsilon":
            x0_hat = x - s * f
        elif self.prediction == "v_prediction":
            x0_hat = (x / norm - s * f) / norm
        else:
            x0_hat = f
        return x0_hat if self.clip is None else x0_hat.clamp(-self.clip, self.clip)

    def _table(self, like: Tensor) -> Tensor:
        """`spec.sigmas` on a device, sent there once: a call of the network waits for nothing."""
        tables = vars(self).setdefault("_tables", {})
        if like.device not in tables:
            tables[like.device] = self.spec.sigmas.to(like)  # type: ignore[union-attr]
        return tables[like.device]
