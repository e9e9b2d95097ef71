"""What a region-adaptive run works on: its tiles, where they begin and where they meet.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752). Beginning later is PatchScaler's idea, not the
paper's: a region without detail needs no high noise levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..options import Options, option
from ..tiling import TileGrid
from .information_gain import bits, detail
from .step_policy import History, StepPolicy

EASY = 0.25  # a region is easy below this part of the picture's 90th percentile of detail
SOLVERS = ("dpm++ 2m", "euler")


@dataclass(frozen=True)
class RegionOptions(Options):
    """How regions are sampled."""

    solver: str = option(
        "dpm++ 2m",
        "'dpm++ 2m' uses each region's last two predictions and needs far fewer steps; 'euler' is "
        "DDIM without noise, the paper's.",
        choices=SOLVERS,
    )
    noise: float = option(
        0.8,
        "How much of the start's noise is really added: 1 is the paper's, for a strong prior; 0.8 "
        "keeps the built-in prior from leaving specks; 0 restores without making anything up.",
        min=0.0,
        max=1.0,
        step=0.05,
    )
    meetings: int = option(
        0,
        "How often on the way all regions wait for each other and agree on their overlaps. 0 is "
        "the paper: stitched once, at the end. A few help where seams show.",
        min=0,
        max=100,
        advanced=True,
    )


@dataclass(frozen=True, eq=False)
class Task:
    """What a run works on.

    z_lr: (K, C, tile, tile), the degraded picture's tiles, B pictures' one after the other.
    noise: the same shape, standard normal, cut from one map per picture with the same grid.
    sigmas: (N,) float64 descending, the base grid without the final 0. half: noise level of
    timestep T / 2. boundaries: noise levels at which a model's conditioning changes: no batch holds
    regions from both sides of one.
    """

    grid: TileGrid
    z_lr: Tensor
    noise: Tensor
    sigmas: Tensor
    half: float
    boundaries: tuple[float, ...] = ()


@dataclass
class Region:
    """One tile on its way. node: the base node of `x`. before: that of `x0_hat`, -1 for none."""

    x: Tensor
    node: int
    x0_hat: Tensor
    before: int = -1
    second: bool = False  # whether x0_hat may serve dpm++ 2m
    rise: float = 0.0  # g^F, the last full-reference gain
    sharper: float = 0.0  # g^N, the last no-reference gain
    best: Tensor | None = None
    left: str = ""
    history: History = field(default_factory=History)


Move = tuple[int, int, str, int]
"""What became of one evaluation: tile, node, class, base steps to its next one, 0 at its last."""


@dataclass(frozen=True)
class Call:
    """One network call. evaluated: the move of every sample. most: how many it could have had."""

    index: int
    evaluated: tuple[Move, ...]
    most: int


def log_ratio(sigma: float, following: float) -> float:
    """h = ln(sigma / following)."""
    return math.log(sigma / following)


def meeting_nodes(steps: int, meetings: int) -> frozenset[int]:
    """Nodes that no region passes alone, evenly spread over the inside of the grid."""
    nodes = (round((k + 1) * (steps - 1) / (meetings + 1)) for k in range(meetings))
    return frozenset(node for node in nodes if 0 < node < steps - 1)


def start_nodes(task: Task, policy: StepPolicy) -> list[int]:
    """The node at which every region begins: later for easy ones where the policy says so."""
    if not policy.adaptive_start:
        return [0] * len(task.z_lr)
    levels = task.sigmas.tolist()
    later = next((i for i, s in enumerate(levels) if s <= policy.start_sigma_easy), len(levels) - 1)
    begins = []
    for picture in task.z_lr.split(task.grid.count):
        blocks = torch.cat([bits(tile[None]).flatten() for tile in picture])
        bound = EASY * torch.quantile(blocks.cpu().double(), 0.9).item()
        begins += [later if detail(tile[None]).item() < bound else 0 for tile in picture]
    return begins
