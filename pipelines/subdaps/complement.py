"""Noise that adds to what the measurement's own noise left in a state, so that the sum is white.

Ours, beside SubDAPS++ (arXiv 2605.14267). Its next state x0_y + sigma_next n holds more noise than
the network is told: x0_y was drawn to y, whose noise the update amplifies where A is weak. With

    W = rho (A^T A + rho)^-1,   rho = (noise_level / r)^2,   prox(z) = argmin F of y = 0, x0_hat = z

prox(z) = W z, and the noise of y reaches x0_y with covariance r^2 (W - W^2), which is r / 2 at its
worst. With r = 2 sigma_next that is just what the network expects there, and the noise to add is a
reflection of white noise n in the measurement:

    x_next = x0_y + sigma_next (2 prox(n) - n),
    sigma_next^2 (2 W - 1)^2 + (2 sigma_next)^2 (W - W^2) = sigma_next^2.

So the state's noise is white, with exactly the level that the network is told, at every frequency
and for every linear A. What the measurement does not see gets n, what it sees well -n, and what it
sees through much noise gets little. It costs one more update a step, made together with the first.
With `prior_std` r is smaller and some noise is missing; the error of x0_hat itself is not counted
(`SamplerOptions.renoise`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..measurement import Measurement
from ..operators.contract import Operator
from ..updates.update import MeasurementUpdate, Surroundings


def exists(update: MeasurementUpdate, operator: Operator) -> bool:
    """Whether there is such noise: for the maximum, not a draw, under a linear operator."""
    return update.proximal and operator.linear


def updated(
    x0_hat: Tensor,
    n: Tensor,
    r: float,
    update: MeasurementUpdate,
    measurement: Measurement,
    around: Surroundings,
) -> tuple[Tensor, Tensor]:
    """x0_y and 2 prox(n) - n, both (B, C, h, w), for white noise n of x0_hat's shape.

    Both are one update of twice as many pictures, unless every picture has a degradation of its
    own.
    """
    if measurement.operator.count > 1:
        w_n = update(n, r, measurement.silence, around)
        return update(x0_hat, r, measurement, around), 2 * w_n - n
    both = update(torch.cat([x0_hat, n]), r, measurement.beside_silence, around)
    x0_y, w_n = both.chunk(2)
    return x0_y, 2 * w_n - n
