"""The measurement update for a prediction whose error has a spectrum.

The papers believe a prediction x0_hat to lie within r of the truth at every frequency and in every
colour alike. A network is wrong by nearly sigma in what is coarse and by a tenth of it in what is
fine, and its errors in colour are smaller again (`ErrorCurve`). With their covariance S^2

    argmin 1/2 |y - A(z)|^2 + noise_level^2 / 2 |S^-1 (z - x0_hat)|^2,   z = x0_hat + S u

is the papers' own minimum in u, with A S for A, y - A x0_hat for y, 0 for x0_hat and r = 1. So a
measured pixel also says something of its neighbours, as far as errors hang together.

S = O^T C^T diag(s) C O: O the colours (1, 1, 1), (1, -1, 0), (1, 1, -2) of length 1, C the
orthonormal cosine transform (DCT-II), which knows no border, s between the measured frequencies by
lines in log frequency. Ours; with one number in s it is `ConjugateGradient`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from ...models.prior import FREQUENCIES
from ..measurement import Measurement
from ..operators.compose import Compose
from ..operators.contract import Operator
from .conjugate_gradient import fletcher_reeves

ITERATIONS, TOLERANCE = 60, 0.003  # of conjugate gradients; most runs of few, at much noise all


def spectral_update(
    x0_hat: Tensor, spectrum: Sequence[Sequence[float]], measurement: Measurement
) -> Tensor:
    """x0_y, (B, 3, h, w) like x0_hat.

    spectrum: the error of luminance and of chroma at FREQUENCIES (`ErrorCurve.spectrum`).
    measurement: of images like x0_hat, with a linear operator.
    """
    height, width = x0_hat.shape[-2:]
    weights = interpolation(height, width).to(x0_hat.device)
    luminance, chroma = (
        (weights @ torch.tensor(errors, device=x0_hat.device).log()).exp() for errors in spectrum
    )
    root = Correlated(torch.stack([luminance, chroma, chroma]).float())
    y = measurement.y - measurement.operator(x0_hat)
    operator, rho = Compose((root, measurement.operator)), measurement.noise_level**2
    u = fletcher_reeves(operator, y, torch.zeros_like(x0_hat), rho, ITERATIONS, TOLERANCE)
    return x0_hat + root(u)


@dataclass(frozen=True, eq=False)
class Correlated(Operator):
    """S, symmetric. scale: s, (3, h, w)."""

    scale: Tensor
    structure: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """S x, (B, 3, h, w)."""
        height, width = x.shape[-2:]
        rows, columns = (cosines(n).to(x.device) for n in (height, width))
        colours = COLOURS.to(x.device)
        c = rows @ torch.einsum("cd,bdhw->bchw", colours, x) @ columns.T
        return torch.einsum("dc,bdhw->bchw", colours, rows.T @ (self.scale * c) @ columns)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """S x and S."""
        return self(x), self


COLOURS = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]])
COLOURS = COLOURS / COLOURS.norm(dim=1, keepdim=True)


@lru_cache(16)
def cosines(n: int) -> Tensor:
    """C for n values, (n, n), orthonormal."""
    place = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi * (place[None] + 0.5) * place[:, None] / n) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


@lru_cache(16)
def interpolation(height: int, width: int) -> Tensor:
    """(height, width, number of FREQUENCIES): the share that every frequency has in a coefficient,
    by lines in its logarithm. Coefficient (j, k) has sqrt((j / 2h)^2 + (k / 2w)^2) cycles a pixel.
    """
    rows, columns = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (height, width))
    radius = (rows[:, None].square() + columns.square()).sqrt()
    known = torch.tensor(FREQUENCIES, dtype=torch.float64).log()
    at = radius.clamp(min=FREQUENCIES[0], max=FREQUENCIES[-1]).log().contiguous()
    upper = torch.searchsorted(known, at).clamp(1, len(known) - 1)
    share = (at - known[upper - 1]) / (known[upper] - known[upper - 1])
    shares = torch.zeros(height, width, len(known), dtype=torch.float64)
    shares.scatter_(2, upper[..., None], share[..., None])
    shares.scatter_(2, upper[..., None] - 1, 1 - share[..., None])
    return shares.float()


def measured_spectrum(error: Tensor) -> tuple[tuple[float, ...], ...]:
    """What `ErrorCurve.spectrum` holds of errors (B, 3, h, w): root mean squares, each frequency's
    over the coefficients it has a share in; of one that has none the next lower one's."""
    rows, columns = (cosines(n).to(error.device) for n in error.shape[-2:])
    c = rows @ torch.einsum("cd,bdhw->bchw", COLOURS.to(error.device), error) @ columns.T
    power = c.square().mean(0).cpu().double()
    shares = interpolation(*error.shape[-2:]).double()
    total = shares.sum((0, 1))
    found = []
    for p in (power[0], power[1:].mean(0)):
        means = ((shares * p[..., None]).sum((0, 1)) / total.clamp(min=1e-9)).sqrt().tolist()
        for j in range(1, len(means)):
            means[j] = means[j] if total[j] > 0 else means[j - 1]
        found.append(tuple(means))
    return tuple(found)
