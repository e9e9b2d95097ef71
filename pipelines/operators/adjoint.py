"""No derivative on trust: <J d, r> = <d, J^T r> before anything is restored by J^T.

torch 2.8 to 2.11 derive zero or something else, without a word, from a function that reads a
constant under `torch.inference_mode`; weights that are moved during a run, or an adjoint written
with a wrong sign, do the same. So the first pullback of every operator, decoder and prior is held
against its forward pass, which needs no derivative, with fixed random d and r.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

TOLERANCE = 1e-4  # of |A d|, linear: rounding leaves 2e-7
STEPS = (1e-3, 3e-2)  # |h d| / |x| of a difference: for float32, and for half precision
SMALLEST = 0.1  # |x| per value that steps are measured by, at least: a flat grey picture is 0
FINER = (1e-4, 1e-5)  # steps that are tried before a derivative is refused
TELLING = 0.1  # of |J d|: an error of the differences up to which a step is good enough
FALLEN = 0.9  # of |J d|: below it smaller steps count
FLAT = 0.03  # of |J d|: what is less with the smallest step is none, and J^T r may be zero
ERRORS = 4  # how many times the differences' error is allowed; 2.4 was met, with JPEG
NEWER = (2, 13)  # the first torch that derives rightly in inference mode, too
POOL = 1_048_573  # a prime, so that a repeated probe has no period that a picture has


def check_linear(name: str, forward: Map, x: Tensor, pullback: Map, y: Tensor) -> None:
    """Raise `ArithmeticError` unless <A d, r> = <d, A^T r>, at the cost of one pass each way.

    name: opens the sentence. forward: A, which takes x's shape to y's. pullback: A^T at x.
    """
    d, r = probe(x, 1), probe(y, 2)
    a_d = forward(d)
    refuse_unless_equal(name, a_d, d, r, pullback(r), TOLERANCE * length(a_d))


def check_nonlinear(name: str, forward: Map, x: Tensor, pullback: Map, y: Tensor) -> None:
    """Raise `ArithmeticError` unless <J d, r> = <d, J^T r> as far as differences of `forward` tell.

    y = forward(x). Two passes forward and one back, in half precision four and one. Where
    differences tell nothing, as for JPEG's rounding, which jumps, what is left is that J^T r must
    be finite, and not zero where the function changes.
    Before anything is refused two smaller steps are tried, four passes more: on a flat picture or
    beside a corner J d may be an average that the derivative at x is not. They count where J d
    falls with the step; rounding, half precision's above all, makes it rise.
    """
    d, r = probe(x, 1), probe(y, 2)
    j_d, error = difference(forward, x, d, y)
    jt_r, allowed, least = pullback(r), ERRORS * error + TOLERANCE * length(j_d), 0.0
    if equal(j_d, d, r, jt_r, allowed):
        return
    (finer, _), (finest, own) = (one_difference(forward, x, d, y, step) for step in FINER)
    if length(finest) < FALLEN * length(j_d):
        error, least = max(own, length(finest - finer)), FLAT * length(j_d)
        j_d, allowed = finest, ERRORS * error + TOLERANCE * length(finest)
    refuse_unless_equal(name, j_d, d, r, jt_r, allowed, least)


def difference(forward: Map, x: Tensor, d: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """(J d, its possible error |.|) of the first of `STEPS` that is good enough, or of the best."""
    found: list[tuple[Tensor, float]] = []
    for step in STEPS:
        j_d, error = one_difference(forward, x, d, y, step)
        found.append((j_d, error))
        if error <= TELLING * length(j_d):
            break
    return min(found, key=lambda each: each[1] / max(length(each[0]), 1e-30))


def one_difference(
    forward: Map, x: Tensor, d: Tensor, y: Tensor, step: float
) -> tuple[Tensor, float]:
    """(J d by a central difference, its possible error |.|): half of what the two one-sided
    differences are apart, or rounding's where the function moves no further than that."""
    h = step * max(length(x), SMALLEST * math.sqrt(x.numel())) / length(d)
    ahead, behind = forward(x + h * d) - y, y - forward(x - h * d)
    moved, apart = ahead + behind, length(ahead - behind)
    rounding = torch.finfo(y.dtype).eps * length(y)
    error = max(apart, rounding) if length(moved) <= rounding else apart
    return moved / (2 * h), error / (2 * h)


def equal(
    j_d: Tensor, d: Tensor, r: Tensor, jt_r: Tensor, allowed: float, least: float = 0.0
) -> bool:
    """Whether the two products are finite and no further apart than allowed, and J^T r is zero only
    where |J d| is no more than `least`."""
    vanished = length(jt_r) == 0 and length(j_d) > least
    gap = abs(inner(j_d, r) - inner(d, jt_r))
    return not vanished and gap <= allowed < math.inf  # NaN is not equal either


def refuse_unless_equal(
    name: str, j_d: Tensor, d: Tensor, r: Tensor, jt_r: Tensor, allowed: float, least: float = 0.0
) -> None:
    """Raise `ArithmeticError` where the two products are not `equal`."""
    if not equal(j_d, d, r, jt_r, allowed, least):
        forwards, backwards = inner(j_d, r), inner(d, jt_r)
        remedy = "report the operator"
        if torch.is_inference_mode_enabled():
            remedy = "call it outside of torch.inference_mode()"
        elif tuple(map(int, torch.__version__.split(".")[:2])) < NEWER:
            remedy = f"use torch {NEWER[0]}.{NEWER[1]} or newer, or report the operator"
        raise ArithmeticError(
            f"{name} has a wrong derivative under torch {torch.__version__}: <J d, r> is "
            f"{forwards:.6g} and <d, J^T r> is {backwards:.6g}, so nothing was restored; {remedy}."
        )


def probe(like: Tensor, seed: int) -> Tensor:
    """N(0, 1) values of `like`'s shape, the same on every device."""
    count = like.numel()
    pool = torch.randn(min(count, POOL), generator=torch.Generator().manual_seed(seed))
    pool = pool.to(like.device, like.dtype)
    return pool.repeat(-(-count // POOL))[:count].reshape(like.shape)


def inner(u: Tensor, v: Tensor) -> float:
    """<u, v> over the whole batch."""
    return (wide(u) * wide(v)).sum().item()


def length(v: Tensor) -> float:
    """|v| over the whole batch."""
    return wide(v).square().sum().sqrt().item()


def wide(v: Tensor) -> Tensor:
    """In float32 at least: half precision has no number for the square of a large picture."""
    return v.float() if v.dtype in (torch.float16, torch.bfloat16) else v
