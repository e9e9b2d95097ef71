"""Conjugate-gradient measurement update of SubDAPS++ (arXiv 2605.14267).

The maximum a posteriori estimate of x0 given the measurement y and a Gaussian belief around the
prediction x0_hat of the network:

    x0_y = argmin_z F(z),  F(z) = 1/2 |y - A(z)|^2 + rho/2 |z - x0_hat|^2,  rho = (noise_level/r)^2

by J steps of Fletcher-Reeves with the closed-form step length of the linearised operator.

| paper   | here        | meaning                                                          |
|---------|-------------|------------------------------------------------------------------|
| J       | iterations  | number of steps                                                  |
| r_t     | r           | standard deviation of the belief around x0_hat                   |
| sigma_y | noise_level | standard deviation of the measurement's noise, [-1, 1] units     |

Where we depart from the official code, and why:
- Inner products are per sample, so a sample does not depend on its batch. The official code sums
  over the whole tensor, which is the same for its batches of one.
- A linear operator keeps the residual by recursion (`fletcher_reeves`): 2 J + 1 operator passes for
  4 J + 2. The result is the same to rounding.
- A sample stops when its gradient has fallen to `tolerance` times its first, or is exactly zero;
  the official code divides zero by zero there. `tolerance` 0 runs all J steps.
- Directions are preconditioned for linear operators with P = A^T A 1 + rho, which costs two more
  passes. For a non-negative A, A^T A <= diag(A^T A 1); for masks the two are equal at every
  resolution, so one step is enough; a blur that continues the picture by its last pixels gives
  those pixels many times the weight of others, and ten plain steps do not get there. For
  downscaling P is nearly constant and changes little; where it is constant it is left out, and
  steps that cannot be needed are too (`condition`). `preconditioned` off is the official iteration.
- `prior_std` and `sample` are ours; their neutral defaults are the paper.
- Of clipped pixels y is a bound (`AtLeast`): their residual is what is missing (`residual`), and
  their curvature counts in full, so that every step lowers F whichever pixels pass white. Such
  steps are shorter, so there are 2 J: with J a cup's .4 dB are lost beside its clipped rim.
- Where y was rounded, as JPEG rounds, nothing derives the rounding: see `before_rounding`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..measurement import Measurement
from ..operators.contract import Operator
from ..options import Options, option
from ..replay import launched
from ..step import column
from ..sums import dot
from .before_rounding import before_rounding, exists
from .closed_form import gram_of_ones, minimise_exactly
from .condition import condition, steps_enough
from .fletcher_reeves import fletcher_reeves
from .update import Surroundings

BOUNDED = 2  # times as many steps where values of y are bounds


@dataclass(frozen=True)
class ConjugateGradient(Options):
    """x0_y = argmin 1/2 |y - A(z)|^2 + rho/2 |z - x0_hat|^2.

    Raises `ValueError` when `solver` is "exact" and the operator has no closed form, or when
    `sample` is set and no noise source came.
    """

    iterations: int = option(
        10,
        "Conjugate-gradient steps. 10 is the paper's; nonlinear blur takes 100.",
        min=1,
        max=1000,
    )
    tolerance: float = option(
        0.03,
        "Stop once the gradient has fallen to this fraction of its first value; 0 always runs all "
        "steps.",
        min=0.0,
        max=1.0,
        step=1e-5,
        advanced=True,
    )
    preconditioned: bool = option(
        True,
        "Scale every pixel by the weight that the measurement gives it: the same minimum in fewer "
        "steps, for linear operators. Off is the official iteration.",
        advanced=True,
    )
    solver: str = option(
        "conjugate gradient",
        "'exact' solves in closed form where the operator allows it: masks, downscaling, "
        "Gaussian blurs, and blurs with the border 'circular'.",
        choices=("conjugate gradient", "exact"),
    )
    prior_std: float = option(
        0.0,
        "Spread of the pictures the prior knows, in [-1, 1] units: early predictions are then "
        "trusted as far as r s / sqrt(r^2 + s^2). 0 leaves r as the sampler has it: the noise "
        "level in the paper, twice the next one with complementary noise.",
        min=0.0,
        max=10.0,
        step=0.05,
        advanced=True,
    )
    sample: bool = option(
        False,
        "Draw from the local posterior (perturb and solve) in place of its maximum: more varied "
        "pictures, lower PSNR. For uncertainty turn on draws of Posterior Sampler instead. The "
        "paper takes the maximum.",
        advanced=True,
    )
    through_network: ClassVar[bool] = False
    ancestral: ClassVar[bool] = False

    @property
    def proximal(self) -> bool:
        """Whether it is the maximum and no draw."""
        return not self.sample

    def __call__(
        self,
        x0_hat: Tensor,
        r: float,
        measurement: Measurement,
        around: Surroundings | None = None,
    ) -> Tensor:
        """x0_y, (B, C, h, w), from x0_hat of the same shape; see `MeasurementUpdate`."""
        r = belief_std(r, self.prior_std)
        rho = measurement.noise_level**2 / r**2
        y, centre = measurement.y, x0_hat
        if self.sample:
            if around is None:
                raise ValueError(
                    "Drawing from the local posterior needs a noise source; pass `around`."
                )
            y = y + measurement.noise_level * around.noise(y)
            centre = centre + r * around.noise(centre)
        if self.solver == "exact":
            return minimise_exactly(measurement.operator, y, centre, rho)
        operator = measurement.operator
        if exists(operator) and not self.sample:
            inner, y = before_rounding(operator, y, centre, r, measurement.noise_level)
            if inner is None:
                return y
            operator = inner

        def solve(centre: Tensor, y: Tensor, rho: Tensor) -> Tensor:
            p, steps = self._prepared(operator, centre, rho)
            return fletcher_reeves(operator, y, centre, rho, steps, self.tolerance, p)

        replay = around.replay if around and operator.linear else launched
        weight = torch.full((), rho, device=centre.device)
        return replay((operator, self), solve, centre, y, weight)

    def _prepared(self, operator: Operator, like: Tensor, rho: Tensor) -> tuple[Tensor | None, int]:
        """P, None where it is none or constant, and how many steps are enough (`condition`)."""
        kappa = condition(operator, like)
        if kappa is not None:
            return None, min(self.iterations, steps_enough(kappa, self.tolerance))
        steps = self.iterations * (BOUNDED if operator.bounded else 1)
        if not (self.preconditioned and operator.linear):
            return None, steps
        steps = 1 if "one_to_one" in operator.structure else steps
        return jacobi(operator, like, rho), steps


def belief_std(r: float, prior_std: float) -> float:
    """r, or r s / sqrt(r^2 + s^2) for pictures of standard deviation s = prior_std > 0."""
    if prior_std == 0:
        return r
    return r * prior_std / (r**2 + prior_std**2) ** 0.5


def jacobi(operator: Operator, like: Tensor, rho: Tensor | float) -> Tensor:
    """P = A^T A 1 + rho for images of `like`'s shape, (B, C, h, w).

    Exact where A^T A is diagonal. Of others kept from falling below a hundredth of its mean: any
    positive P leads to the same minimum, and an operator with negative weights may give less.
    """

    def diagonal() -> Tensor:
        p = gram_of_ones(operator, like.float())
        if "one_to_one" in operator.structure:
            return torch.where(p > 0, p, 1.0)  # exact; what is not seen has no gradient
        least = 0.01 * dot(p, torch.ones_like(p)) / p[0].numel()
        return torch.maximum(p, column(least, p))

    return operator.constant(("jacobi", like.shape, like.device), diagonal) + rho
