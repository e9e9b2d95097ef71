"""Network calls of a heap of regions against a lockstep of the same decisions.

In lockstep all tiles share a clock: at each node of the base grid the tiles that are due there are
packed into batches, of which the last is part-full. The heap takes the least advanced tiles,
wherever they are. Both are counted for one photograph at a time from the nodes that a run visited,
and costed twice: by the model 6 + b for a call of b tiles (a GPU, whose launches are not free), and
by this machine's measured time of such a call.
"""

from __future__ import annotations

import time
from collections import Counter

import torch
from torch import Tensor

from undegrade.models.prior import Prior
from undegrade.pipelines.adadiffsr.sampler import RegionRun

FIXED_COST = 6  # of a call, in tiles


def sequences(run: RegionRun, first: int, count: int) -> list[list[int]]:
    """The nodes at which each of `count` tiles, from tile `first` on, was evaluated."""
    found: dict[int, list[int]] = {}
    for call in run.calls:
        for tile, node, _, _ in call.evaluated:
            found.setdefault(tile, []).append(node)
    return [found[k] for k in range(first, first + count)]


def heap_sizes(nodes: list[list[int]], batch: int) -> list[int]:
    """Tiles in every call when the least advanced go first."""
    at, sizes = [0] * len(nodes), []
    while live := [k for k, mine in enumerate(nodes) if at[k] < len(mine)]:
        chosen = sorted(live, key=lambda k: (nodes[k][at[k]], k))[:batch]
        for k in chosen:
            at[k] += 1
        sizes.append(len(chosen))
    return sizes


def lockstep_sizes(nodes: list[list[int]], batch: int) -> list[int]:
    """Tiles in every call when all share a clock."""
    due = Counter(node for mine in nodes for node in mine)
    return [min(batch, n - b) for _, n in sorted(due.items()) for b in range(0, n, batch)]


def call_seconds(prior: Prior, tiles: Tensor, batch: int = 16) -> list[float]:
    """Process time of a network call with 1 .. batch tiles, the best of three."""
    found = []
    for b in range(1, batch + 1):
        x, sigma, best = tiles[:b], torch.full((b,), 0.5), float("inf")
        for _ in range(3):
            start = time.process_time()
            prior.denoise(x, sigma)
            best = min(best, time.process_time() - start)
        found.append(best)
    return found


def packing(
    runs: list[tuple[str, RegionRun]], tiles: int, pictures: int, batch: int, seconds: list[float]
) -> list[list]:
    """Rows of [run, heap's calls, lockstep's calls, lockstep / heap by the model, and measured].

    tiles: of one picture. seconds: of a call with 1 .. batch tiles.
    """
    rows = []
    for name, run in runs:
        if not run.policy.skips:
            continue
        sizes: list[list[int]] = [[], []]
        for picture in range(pictures):
            nodes = sequences(run, picture * tiles, tiles)
            sizes[0] += heap_sizes(nodes, batch)
            sizes[1] += lockstep_sizes(nodes, batch)
        model = [sum(FIXED_COST + b for b in s) for s in sizes]
        measured = [sum(seconds[b - 1] for b in s) for s in sizes]
        ratios = [model[1] / model[0], measured[1] / measured[0]]
        rows.append([name, len(sizes[0]), len(sizes[1]), *ratios])
    return rows
