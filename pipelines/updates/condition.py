"""How many steps of conjugate gradients are enough, from what is known of A^T A.

Who looks at <g, g / p> after every step may end when it is small enough. A recording cannot look,
and would take all J. With eigenvalues of P^-1 (A^T A + rho) between a and b = kappa a, but for
those of what A does not see and no direction reaches, k steps leave of the first gradient

    |g_k| <= sqrt(kappa) / T_k((kappa + 1) / (kappa - 1)) |g_0|,

T_k Chebyshev's polynomial (Saad, Iterative Methods for Sparse Linear Systems, 2003, section 6.11,
bounds the error in the norm of A^T A + rho, which lies between a and b times its square). rho > 0
makes kappa smaller, so it is A^T A's own here.

- A^T A diagonal and P = A^T A + rho: kappa = 1, and one step ends at the minimum (masks).
- separable, P constant: the products of two small matrices' eigenvalues. An antialiased reduction
  4 times has kappa 4.2, and 5 steps reach a thirtieth; one by averages has 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..operators.contract import Operator

SIDE = 512  # pixels of an axis up to which its eigenvalues are worth their time
EQUAL, NONE = 1e-6, 1e-10  # relative differences of what is equal, eigenvalues that are zero


def condition(operator: Operator, like: Tensor) -> float | None:
    """kappa for images of `like`'s size where P = A^T A 1 is constant, so that it may be left out:
    of A^T A without its zeros. None where that is not so, or not known."""
    height, width = like.shape[-2:]
    if not operator.linear or "separable" not in operator.structure or max(height, width) > SIDE:
        return None

    def computed() -> float | None:
        kappa = 1.0
        for m in operator.matrices(height, width):
            p = m.T @ m.sum(1)
            if p.max() - p.min() > EQUAL * p.abs().max():
                return None
            gram = m @ m.T if len(m) < m.shape[1] else m.T @ m
            eigenvalues = torch.linalg.eigvalsh(gram)
            seen = eigenvalues[eigenvalues > NONE * eigenvalues[-1]]
            kappa *= (seen[-1] / seen[0]).item()
        return kappa

    return operator.constant(("condition", height, width), computed)


def steps_enough(kappa: float, tolerance: float) -> float:
    """k after which a gradient has fallen to `tolerance` times its first; infinity where that
    cannot be said."""
    if kappa < 1 + EQUAL:
        return 1
    if tolerance == 0 or kappa > 1 / EQUAL:
        return math.inf
    needed = max(1.0, math.sqrt(kappa) / tolerance)
    return max(1, math.ceil(math.acosh(needed) / math.acosh((kappa + 1) / (kappa - 1))))
