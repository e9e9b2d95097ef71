"""From one noise level to the next, in the convention x = x0 + sigma n."""

from __future__ import annotations

import torch
from torch import Tensor

from .step import column


def transition(
    x: Tensor,
    x0: Tensor,
    sigma: float,
    sigma_next: float,
    kept: Tensor | float,
    n: Tensor | None,
) -> Tensor:
    """x_next = x0 + sigma_next (c eps + sqrt(1 - c^2) n), eps = (x - x0) / sigma.

    x, x0: (B, C, h, w), the state and what it is a noisy picture of. kept: (B,) or one for all, c
    in [0, 1]: 0 draws all noise anew (DAPS), 1 keeps it (DDIM), sigma_next / sigma is DDPM's
    ancestral step. n: (B, C, h, w) fresh noise, None for none.
    """
    if isinstance(kept, Tensor):
        c = column(kept, x)
        x0 = torch.lerp(x0, x, c * (sigma_next / sigma))
        return x0 if n is None else torch.addcmul(x0, (1 - c.square()).sqrt(), n, value=sigma_next)
    if kept > 0:
        x0 = torch.lerp(x0, x, kept * sigma_next / sigma)
    return x0 if n is None else torch.add(x0, n, alpha=(1 - kept**2) ** 0.5 * sigma_next)
