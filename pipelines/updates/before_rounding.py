"""A measurement that was rounded in the end: JPEG, alone or behind a linear operator.

With y = Q(A x0) the rounding Q has no slope to follow, but says within which bounds A x0 lies.
Given the prediction, A x0 is believed to be A x0_hat, give or take; its mean between the bounds
(Q's own `before`) takes the place of y, and the rest is a linear problem with A. That is one step
of expectation maximisation, and the sampler's own steps are the iteration.
"""

from __future__ import annotations

from torch import Tensor

from ..operators.adjoint import probe
from ..operators.contract import Operator
from .closed_form import gram_of_ones


def exists(operator: Operator) -> bool:
    """Whether the operator is Q, or Q behind a linear A."""
    inner, last = operator.split()
    return last.quantises and (inner is None or inner.linear)


def before_rounding(
    operator: Operator, y: Tensor, x0_hat: Tensor, r: float, noise_level: float
) -> tuple[Operator | None, Tensor]:
    """(A, the mean of A x0 given y and x0_hat), or (None, x0_y) where nothing is left to solve.

    r: standard deviation of the belief around x0_hat. Nothing is left where A only selects pixels.
    """
    inner, last = operator.split()
    if inner is None:
        return None, last.before(y, x0_hat, r, noise_level)
    v = inner(x0_hat)
    if "one_to_one" in inner.structure:
        moved = last.before(y, v, r, noise_level) - v
        gram = gram_of_ones(inner, x0_hat).clamp(min=1.0)
        return None, x0_hat + inner.trusted_vjp(x0_hat)[1](moved) / gram
    key = ("error", x0_hat.shape, x0_hat.dtype, x0_hat.device)
    error = inner.constant(key, lambda: inner(probe(x0_hat[:1], 1)))
    return inner, last.before(y, v, r, noise_level, error)
