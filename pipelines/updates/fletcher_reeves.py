"""Conjugate gradients on F(z) = 1/2 |y - A(z)|^2 + rho/2 |z - x0_hat|^2, from z = x0_hat.

A linear A takes, with its preconditioner P, u = z - x0_hat and r = A z - y,

    d_k = d_(k-1) - P^-1 g / <g, P^-1 g>,   w = |A d|^2 + rho |d|^2,   u += d / w,   r += A d / w,

g = A^T r + rho u. It is Fletcher-Reeves in directions divided by <g, P^-1 g>, which makes both of
its scalars a division within the sum: on a card a step is what A and A^T launch, and some fifteen
kernels more. A gradient that is kept by recursion in place of r loses a digit.

Where values of y are bounds (`AtLeast`), g is A^T of what of r is missing (`Operator.residual`).
<g, d> then is no longer -1 and is computed; w still counts all of A d, so that F falls with every
step, whichever pixels pass their bound.
"""

from __future__ import annotations

from math import inf

import torch
from torch import Tensor

from ..answers import Ended
from ..operators.contract import Operator
from ..step import column
from ..sums import dot, dots, squares

ROUNDING = 1e-30  # of <g, P^-1 g>: what is left of it when a gradient is far below rounding
SURE = 1e-4  # tolerance from which <g, d> is known to be -1; near rounding it is not
LEAST = 1e-34  # of <g, P^-1 g>: of less the reciprocal, which directions grow to, has no float32


def fletcher_reeves(
    operator: Operator,
    y: Tensor,
    x0_hat: Tensor,
    rho: Tensor | float,
    iterations: int,
    tolerance: float = 0.0,
    p: Tensor | None = None,
) -> Tensor:
    """J steps of Fletcher-Reeves on F from z = x0_hat.

    operator: A, images of x0_hat's shape -> y's shape. y: (B, C, h', w'). x0_hat: (B, C, h, w).
    rho: > 0. p: a positive preconditioner that divides gradients, (B, C, h, w), or None for none.
    Returns z, (B, C, h, w) float32. Each sample has its own step lengths and its own end: a sample
    whose <g, g / p> has fallen to tolerance^2 times its first value stays where it is.
    """
    steps = linear_steps if operator.linear else nonlinear_steps
    with torch.autocast(x0_hat.device.type, enabled=False):
        weight = rho if isinstance(rho, Tensor) else torch.full((), rho, device=x0_hat.device)
        return steps(operator, y, x0_hat.float(), weight, iterations, tolerance, p)


def linear_steps(
    operator: Operator,
    y: Tensor,
    x0_hat: Tensor,
    rho: Tensor,
    iterations: int,
    tolerance: float,
    p: Tensor | None,
) -> Tensor:
    """`fletcher_reeves` of a linear operator."""
    a_z, adjoint = operator.trusted_vjp(x0_hat)
    r = a_z - y
    g = adjoint(missing(operator, r))
    u, d = torch.zeros(2, *g.shape, device=g.device)
    s = g if p is None else g / p
    gs = dot(g, s)
    enough = (gs * max(tolerance**2, ROUNDING)).clamp(min=LEAST)
    ended, never, rho_dd = Ended(), gs.new_full((), inf), 0 * rho
    for j in range(iterations):
        running = gs > enough
        if ended(running):
            break
        gs = torch.where(running, gs, never)  # what is divided by infinity stays as it is
        d.addcdiv_(s, column(gs, d), value=-1)
        a_d = operator.jvp(x0_hat, d)
        if tolerance < SURE or operator.bounded:
            dd, gd = dots((d, g), d)
            w = torch.addcmul(dot(a_d, a_d), rho, dd) / -gd
        elif p is None:  # g is at right angles to the directions before, so <d, d> is 1 / gs more
            rho_dd = torch.addcdiv(rho_dd, rho, gs)
            w = rho_dd + dot(a_d, a_d)
        else:
            aa, dd = squares(a_d, d)
            w = torch.addcmul(aa, rho, dd)
        w = column(torch.where(running, w, never), d)
        u.addcdiv_(d, w)
        if j == iterations - 1:
            break
        r.addcdiv_(a_d, w)
        g = torch.addcmul(adjoint(missing(operator, r)), u, rho)
        s = g if p is None else g / p
        gs = dot(g, s)
    return x0_hat + u


def nonlinear_steps(
    operator: Operator,
    y: Tensor,
    x0_hat: Tensor,
    rho: Tensor,
    iterations: int,
    tolerance: float,
    p: Tensor | None,
) -> Tensor:
    """`fletcher_reeves` of an operator whose residual and derivative change with z."""
    z = x0_hat
    a_z, pullback = operator.trusted_vjp(z)
    g = pullback(operator.residual(y - a_z))  # -grad F(x0_hat), where the prior says nothing
    d = s = g if p is None else g / p
    gs = dot(g, s)
    enough, ended, zero = gs * tolerance**2, Ended(), gs.new_zeros(())
    for j in range(iterations):
        running = gs > enough
        if ended(running):
            break
        omega = operator.jvp(z, d)
        dd, gd = dots((d, g), d)
        curvature = rho * dd + dot(omega, omega)  # which may underflow
        a = torch.where(running & (curvature > 0), gd / curvature, zero)
        z = torch.addcmul(z, column(a, d), d)
        if j == iterations - 1:
            break
        a_z, pullback = operator.trusted_vjp(z)
        residual = operator.residual(y - a_z)
        g = torch.addcmul(pullback(residual), rho, z - x0_hat, value=-1)
        s = g if p is None else g / p
        gs, gs_before = dot(g, s), gs
        d = torch.addcmul(s, column(torch.where(running, gs / gs_before, zero), d), d)
    return z


def missing(operator: Operator, r: Tensor) -> Tensor:
    """Of r = A z - y what speaks against z."""
    return -operator.residual(-r) if operator.bounded else r
