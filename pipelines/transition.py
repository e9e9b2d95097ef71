"""From one noise level to the next, in the convention x = x0 + sigma n."""

from __future__ import annotations

from torch import Tensor

from .step import column


def transition(
    x: Tensor,
    x0: Tensor,
    sigma: float,
    sigma_next: float,
    kept: Tensor,
    n: Tensor | float,
) -> Tensor:
    """x_next = x0 + sigma_next (c eps + sqrt(1 - c^2) n), eps = (x - x0) / sigma.

    x, x0: (B, C, h, w), the state and what it is a noisy picture of. kept: (B,), c in [0, 1]: 0
    draws all noise anew (DAPS), 1 keeps it (DDIM), sigma_next / sigma is DDPM's ancestral step.
    n: (B, C, h, w) fresh noise, 0 for none.
    """
    c = column(kept, x)
    eps = (x - x0) / sigma
    return x0 + sigma_next * (c * eps + (1 - c.square()).sqrt() * n)
