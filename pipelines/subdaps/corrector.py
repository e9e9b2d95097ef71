"""Trajectory corrector of SubDAPS++: a second-order recombination of the run's predictions.

From the first deterministic step m on, with x = x0 + sigma n, r_i = sigma_{i+1} / sigma_i:

    x_c <- r_i x_c + I1 x0_y,{i+1} + I2 (x0_y,{i+1} - x0_y,i),        i = m .. N - 2

the exponential integrator of the probability-flow ODE for a prediction that is linear in log sigma.
x_c starts as the sampler's own state at step m (at step 0 when the run never turned deterministic).

| coefficients | h                        | I1                                      | I2           |
|--------------|--------------------------|-----------------------------------------|--------------|
| consistent   | log(sigma_i/sigma_{i+1}) | 1 - r_i                                 | r_i - I1 / h |
| official     | log(s_i/s_{i+1})         | sigma_{i+1} (1/s_{i+1} - 1/s_i)         | r_i - I1 / h |

s are the noise levels before they were rounded to those of a discrete-time network. The official
code mixes both, so that its coefficients differ where rounding is coarse (the last steps) and are
the same for a continuous-time prior. `consistent` is the paper's formula; where two levels coincide
it gives I1 = I2 = 0, the limit.

The recurrence runs online with two images held, x_c and x0_y,i. After a change of resolution both
are enlarged by nearest neighbour, as the official code does (latents too, since x_c is noisy and
cannot be decoded). The result is the state at sigma_{N-1} and not an x0: it carries noise of that
level. In the paper's variance-preserving scale, which the official code clips to [-1, 1], it is
x_c / sqrt(1 + sigma_{N-1}^2).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from ...models.codec import IDENTITY, Codec
from ..level import picture
from ..operators.canvas import upsample
from ..step import Step, column

COEFFICIENTS = ("official", "consistent")


class Corrector:
    """The recurrence, fed one `Step` at a time.

    coefficients: "official" or "consistent". Raises `ValueError` for any other.
    """

    def __init__(self, coefficients: str = "official") -> None:
        if coefficients not in COEFFICIENTS:
            raise ValueError(f"Coefficients are {coefficients!r}; choose one of {COEFFICIENTS}.")
        self.coefficients = coefficients
        self.step: Step | None = None  # the previous step, but for x and x0_hat
        self.x_c: Tensor | None = None  # (B, C, h, w) at the previous step's resolution
        self.started: Tensor | None = None  # (B,) bool, whether step m has come

    def add(self, step: Step) -> None:
        """Take the next step of the run, in order. Where the noise level rises, at a change of
        resolution, the recurrence starts anew."""
        rises = self.step is not None and step.sigma > self.step.sigma
        if rises or self.step is None or self.x_c is None or self.started is None:
            self.x_c, self.started = step.x, torch.zeros_like(step.deterministic)
        else:
            self.x_c = self._advance(self.x_c, self.step, step)
        first = step.deterministic & ~self.started
        self.x_c = torch.where(column(first, step.x) > 0, step.x, self.x_c)
        self.started = self.started | first
        self.step = replace(step, x=step.x0_y, x0_hat=step.x0_y)  # the others may go

    def _advance(self, x_c: Tensor, now: Step, following: Step) -> Tensor:
        """x_c at the level of `following`."""
        r, i1, i2 = weights(now, following, self.coefficients)
        grow = now.factor // following.factor
        x_c, x0_y = upsample(x_c, grow), upsample(now.x0_y, grow)
        return r * x_c + i1 * following.x0_y + i2 * (following.x0_y - x0_y)

    @property
    def x_vp(self) -> Tensor:
        """The corrected state in the paper's scale, (B, C, h, w). Raises `ValueError` before any
        step."""
        if self.step is None or self.x_c is None:
            raise ValueError("The corrector has seen no step; run the sampler first.")
        return self.x_c / (1 + self.step.sigma**2) ** 0.5

    def result(self, codec: Codec = IDENTITY) -> Tensor:
        """The corrected picture so far; see `corrected`. codec: the prior's."""
        x_vp = self.x_vp
        assert self.step is not None
        return corrected(x_vp, self.step.size, codec)


def corrected(x_vp: Tensor, size: tuple[int, int], codec: Codec = IDENTITY) -> Tensor:
    """The corrected picture, (B, C, H, W) clipped to [-1, 1]; a latent run is decoded here."""
    return picture(x_vp, size, codec).clamp(-1, 1)


def weights(now: Step, following: Step, coefficients: str) -> tuple[float, float, float]:
    """(r, I1, I2) of the step from `now` to `following`."""
    r = following.sigma / now.sigma
    if coefficients == "official":
        h = math.log(now.sigma_grid / following.sigma_grid)
        i1 = following.sigma * (1 / following.sigma_grid - 1 / now.sigma_grid)
        return r, i1, (r - i1 / h if h > 0 else 0.0)
    h = -math.log(r)
    i1 = -math.expm1(-h)
    return r, i1, (r - i1 / h if h > 0 else 0.0)
