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
    numbers = told(*products(a_d, d, r, pullback(r)))
    refuse_unless_equal(name, numbers, TOLERANCE * numbers[0])


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
    jt_r = pullback(r)
    numbers, error = difference(forward, x, d, y, r, jt_r)
    allowed, least = ERRORS * error + TOLERANCE * numbers[0], 0.0
    if equal(numbers, allowed):
        return
    (finer, *_), (finest, products_of, own) = (
        one_difference(forward, x, d, y, step, r, jt_r) for step in FINER
    )
    moved, apart, own_error, *finest_numbers = told(
        length(finest), length(finest - finer), own, *products_of
    )
    if moved < FALLEN * numbers[0]:
        least = FLAT * numbers[0]
        numbers, allowed = finest_numbers, ERRORS * max(own_error, apart) + TOLERANCE * moved
    refuse_unless_equal(name, numbers, allowed, least)


def difference(
    forward: Map, x: Tensor, d: Tensor, y: Tensor, r: Tensor, jt_r: Tensor
) -> tuple[list[float], float]:
    """(`products` of J d, its possible error |.|) of the first of `STEPS` that is good enough, or
    of the best."""
    found: list[tuple[list[float], float]] = []
    for step in STEPS:
        _, products_of, possible = one_difference(forward, x, d, y, step, r, jt_r)
        error, *numbers = told(possible, *products_of)
        found.append((numbers, error))
        if error <= TELLING * numbers[0]:
            break
    return min(found, key=lambda each: each[1] / max(each[0][0], 1e-30))


def one_difference(
    forward: Map, x: Tensor, d: Tensor, y: Tensor, step: float, r: Tensor, jt_r: Tensor
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """(J d by a central difference, its `products`, its possible error |.|): half of what the two
    one-sided differences are apart, or rounding's where the function moves no further than that."""
    h = step * length(x).clamp(min=SMALLEST * math.sqrt(x.numel())) / length(d)
    ahead, behind = forward(x + h * d) - y, y - forward(x - h * d)
    moved, apart = ahead + behind, length(ahead - behind)
    rounding = torch.finfo(y.dtype).eps * length(y)
    error = torch.where(length(moved) <= rounding, torch.maximum(apart, rounding), apart)
    j_d = moved / (2 * h)
    return j_d, products(j_d, d, r, jt_r), error / (2 * h)


def products(j_d: Tensor, d: Tensor, r: Tensor, jt_r: Tensor) -> tuple[Tensor, ...]:
    """|J d|, |J^T r|, <J d, r> and <d, J^T r>, still on their device."""
    return length(j_d), length(jt_r), inner(j_d, r), inner(d, jt_r)


def told(*numbers: Tensor) -> list[float]:
    """The numbers, for which the host waits once."""
    return torch.stack(numbers).tolist()


def equal(numbers: list[float], allowed: float, least: float = 0.0) -> bool:
    """Whether the two products of `products` are finite and no further apart than allowed, and
    J^T r is zero only where |J d| is no more than `least`."""
    moved, back, forwards, backwards = numbers
    vanished = back == 0 and moved > least
    gap = abs(forwards - backwards)
    return not vanished and gap <= allowed < math.inf  # NaN is not equal either


def refuse_unless_equal(
    name: str, numbers: list[float], allowed: float, least: float = 0.0
) -> None:
    """Raise `ArithmeticError` where the two products are not `equal`: `FloatingPointError` where
    it is the forward pass that is not finite."""
    if not equal(numbers, allowed, least):
        *_, forwards, backwards = numbers
        if not math.isfinite(forwards):
            raise FloatingPointError(
                f"{name} gave NaN or infinite values, so nothing was restored; choose float32 for "
                "the prior, or another weight file."
            )
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


def inner(u: Tensor, v: Tensor) -> Tensor:
    """<u, v> over the whole batch."""
    return (wide(u) * wide(v)).sum()


def length(v: Tensor) -> Tensor:
    """|v| over the whole batch."""
    return wide(v).square().sum().sqrt()


def wide(v: Tensor) -> Tensor:
    """In float32 at least: half precision has no number for the square of a large picture."""
    return v.float() if v.dtype in (torch.float16, torch.bfloat16) else v
