"""No derivative on trust: <J d, r> = <d, J^T r> before anything is restored by J^T.

torch 2.8 to 2.11 derive zero or something else, without a word, from a function that reads a
constant under `torch.inference_mode`; weights that are moved during a run, or an adjoint written
with a wrong sign, do the same. So the first pullback of every operator, decoder and prior is held
against its forward pass, which needs no derivative, with fixed random d and r.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]

TOLERANCE = 1e-4  # of |A d|, linear: rounding leaves 2e-7
STEPS = (1e-3, 3e-2)  # |h d| / |x| of a difference: for float32, and for half precision
TELLING = 0.1  # of |J d|: an error of the differences up to which a step is good enough
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
    """
    d, r = probe(x, 1), probe(y, 2)
    j_d, error = difference(forward, x, d, y)
    refuse_unless_equal(name, j_d, d, r, pullback(r), ERRORS * error + TOLERANCE * length(j_d))


def difference(forward: Map, x: Tensor, d: Tensor, y: Tensor) -> tuple[Tensor, float]:
    """(J d by a central difference, its possible error |.|): half of what the two one-sided
    differences are apart."""
    found: list[tuple[float, Tensor]] = []
    for step in STEPS:
        h = step * max(length(x), 1e-3) / length(d)
        ahead, behind = forward(x + h * d) - y, y - forward(x - h * d)
        j_d, error = (ahead + behind) / (2 * h), length(ahead - behind) / (2 * h)
        found.append((error, j_d))
        if error <= TELLING * length(j_d):
            break
    error, j_d = min(found, key=lambda pair: pair[0] / max(length(pair[1]), 1e-30))
    return j_d, error


def refuse_unless_equal(
    name: str, j_d: Tensor, d: Tensor, r: Tensor, jt_r: Tensor, allowed: float
) -> None:
    """Raise `ArithmeticError` where the two products are further apart than allowed, J^T r is zero
    and J d is not, or one of them is not finite."""
    forwards, backwards = inner(j_d, r), inner(d, jt_r)
    vanished = length(jt_r) == 0 and length(j_d) > 0
    if vanished or not abs(forwards - backwards) <= allowed:  # NaN is refused too
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
    return (u * v).sum().item()


def length(v: Tensor) -> float:
    """|v| over the whole batch."""
    return v.square().sum().sqrt().item()
