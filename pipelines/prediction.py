"""What a prior predicts of a noisy state, with the pullback through the network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ..models.prior import Prior
from .operators.adjoint import check_nonlinear
from .schedule import karras

ODE_END = 0.01  # where DAPS' short ODE ends, standard deviation in [-1, 1] units


def predict(
    prior: Prior,
    x: Tensor,
    sigma: float,
    factor: int,
    ode_steps: int,
    backward: bool,
    untried: bool = False,
    told: Tensor | None = None,
) -> tuple[Tensor, Callable[[Tensor], Tensor] | None]:
    """x0_hat of the state x, and u -> (d x0_hat / d x)^T u when `backward` is set, else None.

    told: sigma for every sample, (B,) on x's device, where it is at hand.
    untried: hold that pullback against the prediction; raises `ArithmeticError` where they differ.
    With ode_steps > 1 x0_hat comes from Euler steps of the probability-flow ODE from sigma down
    to 0.01 (DAPS, section 3), with ode_steps network calls in all.
    """
    levels = [sigma]
    if ode_steps > 1 and sigma > ODE_END:
        levels = karras(ode_steps, sigma, ODE_END).tolist()
    # Made out here: before torch 2.8 nobody may read the values of a tensor made in a derivative.
    if told is None or len(levels) > 1:
        each = [torch.full((x.shape[0],), level, device=x.device) for level in levels]
    else:
        each = [told]

    def x0_of(state: Tensor) -> Tensor:
        for (level, following), at in zip(pairwise(levels), each, strict=False):
            state = torch.lerp(prior.denoise(state, at, factor), state, following / level)
        return prior.denoise(state, each[-1], factor)

    if not backward:
        return x0_of(x), None
    x0_hat, derived = torch.func.vjp(x0_of, x)[:2]

    def pullback(u: Tensor) -> Tensor:
        return derived(u)[0]

    if untried:
        check_nonlinear(f"The prior {prior.spec.name}", x0_of, x, pullback, x0_hat)
    return x0_hat, pullback
