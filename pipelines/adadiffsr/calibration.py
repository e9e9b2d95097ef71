"""Spans of a model: what a hard region goes through, so that the threshold keeps its meaning.

Every tile of a few pictures is sampled at every node of the base grid (m = 1), and its change,
detail and local error are noted at each:

    S   = 90th percentile over tiles of sum_i rho_i
    S_N = 90th percentile over tiles of (largest detail - first detail)
    L   = median, over the quarter of tiles that lose most, of sum_i h_i^2 v_i / 2

A policy that is given these spans measures every gain as a part of a hard region's rise. The notes
also tell how many evaluations each setting of the policy would make, without a network call.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from .information_gain import Evaluation, Gain, Spans, change, detail
from .injection import Injection
from .regions import RegionOptions, Task, log_ratio
from .sampler import Denoise, RegionRun
from .step_policy import BUDGETS, History, Place, StepPolicy

EVERY_STEP = StepPolicy(mode="every step")


@dataclass(eq=False)
class Recorder:
    """An `InformationGain` that gains nothing and notes what the regions went through.

    change, detail: (N,) of every region, in the order of the calls' rows.
    """

    change: list[list[float]] = field(default_factory=list)
    detail: list[list[float]] = field(default_factory=list)

    def __call__(self, seen: Evaluation) -> Gain:
        """Note the rows; they are those of the run's latest call."""
        self.change.append(change(seen.x0_hat, seen.previous).tolist())
        self.detail.append(detail(seen.x0_hat).tolist())
        nothing = torch.zeros(len(seen.sigma), dtype=torch.float64)
        return Gain(nothing, nothing)


@dataclass(frozen=True, eq=False)
class Curves:
    """Notes of K tiles at N nodes: how far x0_hat moved since the node before, and its detail.

    change, detail: (K, N) float64, change[:, 0] = 0. sigmas: (N,). half: see `Task`.
    """

    change: Tensor
    detail: Tensor
    sigmas: Tensor
    half: float

    @property
    def spans(self) -> Spans:
        """S, S_N and L / S."""
        way = torch.quantile(self.change.sum(1), 0.9).item()
        sharper = torch.quantile(self.detail.max(1).values - self.detail[:, 0], 0.9).item()
        steps = self.sigmas.log().diff().neg()  # h between a node and the next
        speed = self.change[:, 1:] / steps
        lost = (torch.cat([steps[1:], steps[-1:] * 0]).square() * speed / 2).sum(1)
        hardest = lost.sort(descending=True).values[: max(1, len(lost) // 4)]
        if way <= 0:
            raise ValueError(
                "No tile of the calibration changes on the way; give photographs with detail, or a "
                "larger start_sigma."
            )
        loss = hardest.median().item() / way
        return Spans(way, max(sharper, 1e-6), loss, tuple(self.sigmas.tolist()))


def calibrate(
    denoise: Denoise,
    task: Task,
    options: RegionOptions,
    *,
    injection: Injection | None = None,
    batch: int = 8,
) -> Curves:
    """Sample every tile at every node and note what they go through."""
    notes, levels = Recorder(), tuple(task.sigmas.tolist())
    nothing = Spans(1.0, 1.0, 1.0, levels)
    run = RegionRun(denoise, task, EVERY_STEP, notes, nothing, options, injection, batch)
    noted = torch.zeros(2, len(task.z_lr), len(levels), dtype=torch.float64)
    for call in run:
        for row, (tile, node, _, _) in enumerate(call.evaluated):
            noted[0, tile, node] = notes.change[-1][row]
            noted[1, tile, node] = notes.detail[-1][row]
    return Curves(noted[0], noted[1], task.sigmas, task.half)


def predicted_evaluations(curves: Curves, policy: StepPolicy) -> list[int]:
    """How many evaluations a policy would give each calibrated tile, read off the curves.

    A skip's change is the sum of those it passes. Adaptive start is not counted.
    """
    spans, levels, last = policy.spans or curves.spans, curves.sigmas.tolist(), len(curves.sigmas)
    counts = []
    for moved, sharp in zip(curves.change.cumsum(1).tolist(), curves.detail.tolist(), strict=True):
        history, node, before = History(), 0, 0
        while node < last:
            following = levels[min(node + 1, last - 1)]
            here = log_ratio(levels[node], following)
            at = Place(levels[node], here, levels[node] <= curves.half, node - before)
            rise = sharper = 0.0
            if node > before:
                speed = (moved[node] - moved[before]) / log_ratio(levels[before], levels[node])
                rise = speed * here / spans.full_reference
                sharper = (sharp[node] - sharp[before]) / spans.no_reference / (node - before)
            verdict = policy.decide(history, rise, sharper, at, spans)
            if verdict.leave or node == last - 1:
                break
            before, node = node, min(node + verdict.skip, last - 1)
        counts.append(history.evaluations)
    return counts


def forecast(curves: Curves, policy: StepPolicy) -> dict[str, float]:
    """Mean evaluations per tile for every setting of `quality`, mode "error"."""
    found = {}
    for quality in BUDGETS:
        counts = predicted_evaluations(curves, replace(policy, mode="error", quality=quality))
        found[quality] = sum(counts) / len(counts)
    return found
