"""Likelihood gradient through the network: DPS (Chung et al., ICLR 2023, arXiv 2209.14687).

Algorithm 1, line 7, in the paper's variance-preserving state x_vp:

    x_vp,i-1 <- x'_vp,i-1 - zeta grad_{x_vp,i} |y - A(x0_hat(x_vp,i))|_2

where x' is DDPM's ancestral step from the plain prediction x0_hat. With x_vp = alpha x and
alpha = 1 / sqrt(1 + sigma^2) the same line in this project's state x = x0 + sigma n reads

    x_next <- x' - zeta / (alpha alpha_next) grad_x |y - A(x0_hat(x))|_2.

A measurement update moves x0_hat and not x_next. The ancestral step depends on x0_hat with the
weight w = 1 - sigma_next^2 / sigma^2, so x0_y = x0_hat - zeta / (alpha alpha_next w) grad gives the
same x_next.

Where we depart: at a change of resolution (SubDPS) the prediction stays as it is, since the step
after it draws all noise anew; the norm is per sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..measurement import Measurement
from ..options import Options, option
from ..step import column
from ..sums import dot
from .update import Surroundings


@dataclass(frozen=True)
class LikelihoodGradient(Options):
    """One gradient step of |y - A(x0_hat(x))|_2 with respect to the noisy state x.

    Raises `ValueError` when the sampler gave no backward pass through the network.
    """

    zeta: float = option(
        0.3,
        "Step size; in DPS 0.3 for super-resolution and deblurring, 0.5 for inpainting, with 1000 "
        "steps. With fewer steps take more: 3 with 200.",
        min=0.0,
        max=100.0,
        step=0.05,
    )
    through_network: ClassVar[bool] = True
    ancestral: ClassVar[bool] = True
    proximal: ClassVar[bool] = False

    def __call__(
        self,
        x0_hat: Tensor,
        r: float,
        measurement: Measurement,
        around: Surroundings | None = None,
    ) -> Tensor:
        """x0_y, (B, C, h, w), from x0_hat of the same shape; see `MeasurementUpdate`."""
        if around is None or around.pullback is None:
            raise ValueError("The likelihood gradient needs a backward pass through the network.")
        if around.changes_resolution:
            return x0_hat
        a_x, through_operator = measurement.operator.trusted_vjp(x0_hat)
        residual = measurement.operator.residual(measurement.y - a_x)
        norm = dot(residual, residual).sqrt().clamp(min=1e-12)
        gradient = around.pullback(through_operator(-residual / column(norm, residual)))
        alphas = ((1 + around.sigma**2) * (1 + around.sigma_next**2)) ** -0.5
        weight = 1 - (around.sigma_next / around.sigma) ** 2
        if weight == 0:
            return x0_hat
        return x0_hat - self.zeta / (alphas * weight) * gradient
