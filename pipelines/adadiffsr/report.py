"""What a region-adaptive run cost, in words and as a map."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from .call_cost import fewest
from .sampler import RegionRun
from .step_policy import KINDS
from .trained_gain import TrainedGain

PARTS = 4  # of the base grid, for classes over time


def work_map(run: RegionRun) -> Tensor:
    """Evaluations of each region as a part of the base grid's steps, (B, 1, H, W) in (0, 1].

    Overlaps are blended like the tiles.
    """
    task, steps = run.task, len(run.task.sigmas)
    share = torch.tensor(run.evaluations, dtype=torch.float32) / steps
    side = task.grid.tile
    return task.grid.stitch(share[:, None, None, None].expand(-1, 1, side, side))


def report(run: RegionRun) -> str:
    """Evaluations, calls, occupancy, classes over time, and who left early.

    An evaluation is one network call for one tile; classifier-free guidance makes two of each.
    """
    counts, steps = run.evaluations, len(run.task.sigmas)
    total = sum(counts)
    early = sum(region.left == "saturated" for region in run.regions)
    starts = run.task.z_lr.shape[0] - sum(n == 0 for n in first_nodes(run).values())
    lines = [
        f"{len(counts)} tiles on a base grid of {steps} steps",
        f"evaluations per tile: {min(counts)} / {total / len(counts):.1f} / {max(counts)} "
        f"(min / mean / max), {total} in all, {total / (steps * len(counts)):.0%} of every step",
        *network_calls(run),
        f"left early: {early}, started late: {starts}",
        *classes_over_time(run),
    ]
    if isinstance(run.gain, TrainedGain):
        lines.append(f"regressor: {run.gain.calls} calls for {run.gain.regions} evaluations")
    if not run.spans.measured:
        lines.append("not calibrated: closed-form spans; Calibrate Regions measures them")
    return "\n".join(lines)


def network_calls(run: RegionRun) -> list[str]:
    """How many calls there were, beside those of every step, and what they took, if it is known.

    Where a call costs its launches, it is their number that is saved, not that of evaluations.
    """
    calls, evaluations = len(run.calls), sum(run.evaluations)
    tiles, steps = len(run.regions), len(run.task.sigmas)
    rooms = [call.most for call in run.calls]
    room, least, most = sum(rooms), min(rooms), max(rooms)
    every = sum(fewest(nodes, tiles * calls, room) for nodes in run.stretches)  # as full on average
    sizes = f"{most}" if least == most else f"{least} to {most}"
    lines = [
        f"network calls: {calls}, {evaluations / room:.0%} full at {sizes} tiles each; every step "
        f"takes {every}, so {1 - calls / every:.0%} are saved"
    ]
    took, whole = run.cost.of(calls, evaluations), run.cost.of(every, steps * tiles)
    if took and whole and run.cost.line:
        a, b = (1e3 * seconds for seconds in run.cost.line)
        lines.append(
            f"a call takes {a:.3g} ms and {b:.3g} ms a tile: {took:.3g} s in all, every step "
            f"{whole:.3g} s, so {1 - took / whole:.0%} are saved"
        )
    return lines


def first_nodes(run: RegionRun) -> dict[int, int]:
    """The node at which each tile was first evaluated."""
    found: dict[int, int] = {}
    for call in run.calls:
        for tile, node, _, _ in call.evaluated:
            found.setdefault(tile, node)
    return found


def classes_over_time(run: RegionRun) -> list[str]:
    """One line per quarter of the base grid: how many evaluations were of each class."""
    steps = len(run.task.sigmas)
    counts = [Counter() for _ in range(PARTS)]
    for call in run.calls:
        for _, node, kind, _ in call.evaluated:
            counts[node * PARTS // steps][kind] += 1
    lines = []
    for part, found in enumerate(counts):
        nodes = [n for n in range(steps) if n * PARTS // steps == part]
        if nodes:
            said = ", ".join(f"{kind} {found[kind]}" for kind in KINDS)
            lines.append(f"steps {nodes[0]} to {nodes[-1]}: {said}")
    return lines
