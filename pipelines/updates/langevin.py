"""Langevin measurement update of DAPS (arXiv 2407.01521) and SubDAPS.

M steps of unadjusted Langevin dynamics on the local posterior around the prediction x0_hat:

    z <- z + lr (-grad |A(z) - y|^2 / tau^2 + (x0_hat - z) / r^2) + sqrt(2 lr) n,   n ~ N(0, I)

| DAPS code | here          | meaning                                                        |
|-----------|---------------|----------------------------------------------------------------|
| M         | iterations    | number of steps                                                |
| lr0, 0.01 | learning_rate, final_ratio | the step size falls linearly with the run's progress |
| tau       | tau           | assumed measurement noise, 0.01 in the official configurations |

Where we depart: the official score has no factor 1/2 before |A(z) - y|^2, so tau = 0.01 stands for
noise of 0.01 / sqrt(2). We write the likelihood with its 1/2 and s = tau / sqrt(2) for `likelihood`
"official"; "measured" takes s = noise_level, which makes the target the exact local posterior. A
non-finite iterate raises; the official code replaces it by zeros. The step size is divided
where A^T A is large, because DAPS's own diverges at coarse levels and at replicated borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..answers import Finite
from ..measurement import Measurement
from ..operators.contract import Operator
from ..operators.decode import ThroughDecoder
from ..options import Options, option
from ..step import column
from .conjugate_gradient import belief_std, jacobi
from .update import Surroundings

OFFICIAL_TAU = 0.01


@dataclass(frozen=True)
class Langevin(Options):
    """A sample of p(z) ~ exp(-1/2 |y - A(z)|^2 / s^2 - 1/2 |z - x0_hat|^2 / r^2).

    Raises `ValueError` without a noise source, `FloatingPointError` when the iteration diverges.
    """

    iterations: int = option(
        100, "Langevin steps per sampling step (100 in DAPS).", min=1, max=10000
    )
    learning_rate: float = option(
        5e-5,
        "Step size at the start of the run, 2e-5 to 1e-4 in DAPS; divided where a pixel counts "
        "more than once in the measurement, as at coarse levels.",
        min=1e-8,
        max=1.0,
        step=1e-6,
    )
    final_ratio: float = option(
        0.01,
        "Step size at the run's end, as a fraction of the first.",
        min=1e-4,
        max=1.0,
        step=0.01,
    )
    likelihood: str = option(
        "official",
        "'official' believes noise of 0.01 / sqrt(2) whatever was measured, as the DAPS code does; "
        "'measured' uses the measurement's own noise level.",
        choices=("official", "measured"),
    )
    prior_std: float = option(
        0.0,
        "Spread s of the pictures the prior knows, in [-1, 1] units: r becomes r s / sqrt(r^2 + "
        "s^2). 0 leaves r as the sampler has it, the noise level as in the paper.",
        min=0.0,
        max=10.0,
        step=0.05,
        advanced=True,
    )
    through_network: ClassVar[bool] = False
    ancestral: ClassVar[bool] = False
    proximal: ClassVar[bool] = False

    def __call__(
        self,
        x0_hat: Tensor,
        r: float,
        measurement: Measurement,
        around: Surroundings | None = None,
    ) -> Tensor:
        """x0_y, (B, C, h, w), from x0_hat of the same shape; see `MeasurementUpdate`."""
        if around is None:
            raise ValueError("Langevin dynamics need a noise source; pass `around`.")
        r = belief_std(r, self.prior_std)
        s = OFFICIAL_TAU / 2**0.5 if self.likelihood == "official" else measurement.noise_level
        lr = self._step_sizes(measurement.operator, x0_hat, around)
        root = (2 * lr).sqrt()
        z = x0_hat
        for _ in range(self.iterations):
            a_z, pullback = measurement.operator.trusted_vjp(z)
            residual = measurement.operator.residual(measurement.y - a_z)
            score = pullback(residual) / s**2 + (x0_hat - z) / r**2
            z = z + lr * score + root * around.noise(z)
        (around.finite or Finite()).check(
            z, around.sigma, last=around.finite is None,
            sentence="Langevin dynamics diverged at noise level {sigma} with learning_rate "
            f"{self.learning_rate:g}; lower it.",
        )  # fmt: skip
        return z

    def _step_sizes(self, operator: Operator, like: Tensor, around: Surroundings) -> Tensor:
        """lr, falling linearly with the run, over max(1, p) for every pixel.

        p bounds A^T A, which decides what is stable: A^T A 1 for a linear operator (see `jacobi`),
        f^2 = U^T U for a nonlinear one of slope about 1, times the decoder's gain for a latent
        (`ThroughDecoder.gain`, measured anew at every call). Where a pixel is measured once p is 1
        and lr is DAPS's. A step size of its own for every pixel is a diagonal preconditioner, which
        leaves the target as it is.
        """
        lr = self.learning_rate * (1 + around.progress * (self.final_ratio - 1))
        if isinstance(operator, ThroughDecoder):
            p = around.factor**2 * operator.gain(like)
            return column(lr / p.clamp(min=1), like)
        if not operator.linear:
            return torch.tensor(lr / around.factor**2).to(like)
        return lr / jacobi(operator, like, 0.0).clamp(min=1)
