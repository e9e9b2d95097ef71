"""The measurement update for a prediction whose error has a spectrum.

The papers believe a prediction x0_hat to lie within r of the truth at every frequency and in every
colour alike. A network is wrong by nearly sigma in what is coarse and by a tenth of it in what is
fine, and its errors in colour are smaller again (`ErrorCurve`). With their covariance S^2

    argmin 1/2 |y - A(z)|^2 + noise_level^2 / 2 |S^-1 (z - x0_hat)|^2,   z = x0_hat + S u

is the papers' own minimum in u, with A S for A, y - A x0_hat for y, 0 for x0_hat and r = 1. So a
measured pixel also says something of its neighbours, as far as errors hang together.

S = O^T C^T diag(s) C O: O the opponent colours, luminance and two of chroma, C the orthonormal
cosine transform (DCT-II), which knows no border, s between the measured frequencies by
lines in log frequency. Ours; with one number in s it is `ConjugateGradient`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from ...models.prior import FREQUENCIES
from ..cosines import transformed, transformed_back
from ..measurement import Measurement
from ..operators.compose import Compose
from ..operators.contract import Operator
from ..opponent import from_opponent, opponent
from .fletcher_reeves import fletcher_reeves

ITERATIONS, TOLERANCE = 60, 0.003  # of conjugate gradients; most runs of few, at much noise all


def spectral_update(
    x0_hat: Tensor,
    spectrum: Sequence[Sequence[float]],
    measurement: Measurement,
    iterations: int = ITERATIONS,
    tolerance: float = TOLERANCE,
) -> Tensor:
    """x0_y, (B, 3, h, w) like x0_hat.

    spectrum: the error of luminance and of chroma at FREQUENCIES (`ErrorCurve.spectrum`).
    measurement: of images like x0_hat, with a linear operator.
    """
    luminance, chroma = (between(errors, x0_hat) for errors in spectrum)
    root = Correlated(torch.stack([luminance, chroma, chroma]))
    y = measurement.y - measurement.operator(x0_hat)
    operator, rho = Compose((root, measurement.operator)), measurement.noise_level**2
    u = fletcher_reeves(operator, y, torch.zeros_like(x0_hat), rho, iterations, tolerance)
    return x0_hat + root(u)


@dataclass(frozen=True, eq=False)
class Correlated(Operator):
    """S, symmetric. scale: s, (3, h, w)."""

    scale: Tensor
    structure: ClassVar[frozenset[str]] = frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """S x, (B, 3, h, w)."""
        scaled = self.scale * coefficients(x)
        return from_opponent(transformed_back(transformed_back(scaled, -1), -2))

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """S x and S."""
        return self(x), self


def coefficients(x: Tensor) -> Tensor:
    """C O x, (B, 3, h, w)."""
    return transformed(transformed(opponent(x), -1), -2)


def between(errors: Sequence[float], like: Tensor) -> Tensor:
    """The error of every coefficient, (h, w), from those at FREQUENCIES."""
    upper, share = neighbours(*like.shape[-2:], like.device)
    known = torch.tensor(errors, device=like.device).log()
    return torch.lerp(known[upper - 1], known[upper], share).exp()


@lru_cache(8)
def neighbours(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of every coefficient the next higher of FREQUENCIES, by its number, and how near it lies to
    it in log frequency, 0 to 1; both (height, width). Coefficient (j, k) has
    sqrt((j / 2 height)^2 + (k / 2 width)^2) cycles a pixel."""
    with torch.inference_mode(False):  # constants, of use in and out of it
        rows, columns = (torch.arange(n, dtype=torch.float64) / (2 * n) for n in (height, width))
        radius = (rows[:, None].square() + columns.square()).sqrt()
        known = torch.tensor(FREQUENCIES, dtype=torch.float64).log()
        at = radius.clamp(min=FREQUENCIES[0], max=FREQUENCIES[-1]).log().contiguous()
        upper = torch.searchsorted(known, at).clamp(1, len(known) - 1)
        share = (at - known[upper - 1]) / (known[upper] - known[upper - 1])
        return upper.to(device), share.float().to(device)


def measured_spectrum(error: Tensor) -> tuple[tuple[float, ...], ...]:
    """What `ErrorCurve.spectrum` holds of errors (B, 3, h, w): root mean squares, each frequency's
    over the coefficients it has a share in; of one that has none the next lower one's."""
    power = coefficients(error).square().mean(0).cpu().double().flatten(1)
    upper, share = (v.flatten() for v in neighbours(*error.shape[-2:], torch.device("cpu")))
    share = share.double()

    def shared(values: Tensor) -> Tensor:
        sums = torch.zeros(len(FREQUENCIES), dtype=torch.float64)
        sums = sums.index_add(0, upper, values * share)
        return sums.index_add(0, upper - 1, values * (1 - share))

    total = shared(torch.ones_like(share))
    found = []
    for p in (power[0], power[1:].mean(0)):
        means = (shared(p) / total.clamp(min=1e-9)).sqrt().tolist()
        for j in range(1, len(means)):
            means[j] = means[j] if total[j] > 0 else means[j - 1]
        found.append(tuple(means))
    return tuple(found)
