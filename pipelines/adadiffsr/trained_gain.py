"""Region information from a trained regressor, in place of the estimator without weights.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752). The regressor predicts for every 8x8 block what
the image quality of x0_hat rises by per unit of log noise level (`quality_maps`), and

    g = 97th percentile over blocks of the rise * ln(sigma / sigma_next) / span

is a region's gain from the next base step as a part of what a hard region rises by on the way,
against its own final result (g^F) and without a reference (g^N). The span is that of the
regressor's own predictions for the hard regions of its training; one of part of the way is the same
on every base grid, so that the regressor serves any grid between the noise levels it knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ...models.prior import Prior
from .information_gain import (
    Evaluation,
    Gain,
    InformationGain,
    Spans,
    WeightFree,
    closed_form,
    upper,
)

SLACK = 1.01  # how far a run may go beyond the noise levels of the training


class TrainedFor(Protocol):
    """See `models.region_regressor.Trained`."""

    @property
    def prior(self) -> str:
        """Name of the prior of the training."""
        ...

    @property
    def sigmas(self) -> tuple[float, ...]:
        """Noise levels of the base grid of the training, descending."""
        ...

    @property
    def spans(self) -> tuple[float, float]:
        """What a hard region rises by on it, with and without a reference."""
        ...

    @property
    def loss(self) -> float:
        """What its steps lose together, in units of the first span."""
        ...


@runtime_checkable
class GainMaps(Protocol):
    """A regressor."""

    @property
    def trained(self) -> TrainedFor:
        """What it was trained for."""
        ...

    def predict(
        self, x: Tensor, x0_hat: Tensor, previous: Tensor, z_lr: Tensor, sigma: Tensor,
        sigma_previous: Tensor,
    ) -> Tensor:
        """Rise per unit of log noise level of every block, (B, 2, rows, columns)."""
        ...

    def check(self, prior: Prior) -> None:
        """Raise `ValueError` for a prior it was not trained with."""
        ...


@dataclass(eq=False)
class TrainedGain:
    """An `InformationGain` that asks a regressor. calls, regions: how often, and of how many."""

    regressor: GainMaps
    calls: int = 0
    regions: int = 0

    def __call__(self, seen: Evaluation) -> Gain:
        """One call of the regressor for all rows."""
        maps = self.regressor.predict(
            seen.x, seen.x0_hat, seen.previous, seen.z_lr, seen.sigma, seen.sigma_previous
        ).cpu()  # at once: the host waits for it
        self.calls += 1
        self.regions += len(maps)
        step = (seen.sigma / seen.sigma_next).log()
        full, none = (
            upper(one.flatten(1)) * step / span
            for one, span in zip(maps.unbind(1), self.regressor.trained.spans, strict=True)
        )
        return Gain(full, none)


def information(
    regressor: GainMaps | None, spans: Spans | None, sigmas: Tensor, factor: int
) -> tuple[InformationGain, Spans]:
    """What tells how much regions gain, and a hard region's spans.

    A regressor, with those of its training; else the weight-free one with `spans`, those of a
    calibration, or with `closed_form` ones. sigmas: (N,) descending, the base grid. factor: the
    codec's.
    """
    if regressor is not None:
        return TrainedGain(regressor), trained_spans(regressor, sigmas)
    spans = spans or closed_form(sigmas, factor)
    return WeightFree(spans), spans


def trained_spans(regressor: GainMaps, sigmas: Tensor) -> Spans:
    """The spans of a base grid, in units of the regressor's own.

    sigmas: (N,) descending. The loss is that of its training, as much smaller as the grid is finer.
    Raises `ValueError` for a grid that leaves the noise levels it was trained for.
    """
    known, levels = regressor.trained.sigmas, sigmas.tolist()
    if levels[0] > known[0] * SLACK or levels[-1] < known[-1] / SLACK:
        raise ValueError(
            f"The regressor knows noise levels from {known[0]:.4g} to {known[-1]:.4g} and the run "
            f"goes from {levels[0]:.4g} to {levels[-1]:.4g}; stay between, or leave regressor "
            "empty."
        )
    share = even_loss(levels) / even_loss(known)
    return Spans(*regressor.trained.spans, regressor.trained.loss * share, tuple(levels))


def even_loss(levels: list[float] | tuple[float, ...]) -> float:
    """What N equal steps lose, up to a factor, of a change that is even in log noise level."""
    return math.log(levels[0] / levels[-1]) ** 2 / len(levels)
