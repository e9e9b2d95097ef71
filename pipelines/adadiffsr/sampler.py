"""AdaDiffSR: every region of a picture gets only the timesteps it needs.

Reference: "AdaDiffSR: Adaptive Region-Aware Dynamic Acceleration Diffusion Model for Real-World
Image Super-Resolution" (ECCV 2024, arXiv 2410.17752).

| paper             | here                  | meaning                                              |
|-------------------|-----------------------|------------------------------------------------------|
| sub-regions       | tiles of a `TileGrid` | overlapping, each denoised on its own                |
| x_i               | x                     | noisy state z_lr + .. at node i of the base grid     |
| f_i               | x0_hat                | the prediction; the paper may score x_i itself       |
| MMLE, R_i, I_i    | `InformationGain`     | what a region gains per base step                    |
| DTSS              | `StepPolicy.decide`   | how many base steps it skips, or that it is done     |
| PFJ               | `Injection`           | how strongly it is held to the degraded picture      |
| stitching         | `TileGrid.stitch`     | Gaussian weights, once, at the end                   |

Regions of all pictures go in `Order`, the least advanced first, in full batches with a noise level
for every sample; there is no common clock, so that batches stay full although regions
skip differently. A region knows nothing of the others: the result depends neither on the batch size
nor on the order (but for a network whose rounding depends on its batch).

The step from sigma to s, r = s / sigma, with h = ln(1 / r) and the way before it h':

    x <- r x + (1 - r) x0_hat                                    euler (DDIM without noise)
    x <- r x + (1 - r) (x0_hat + min(h / 2 h', 1) (x0_hat - previous))    dpm++ 2m

The start is z_lr + noise sigma n; `noise` below 1 is ours, as in `subdaps.SamplerOptions.renoise`.
Where the paper is silent, and what we chose: one noise map for the whole canvas, cut like the
picture, or overlaps disagree; a skip never passes the last node, where the prediction is the
result; `meetings` (ours) stitches all states on the way and cuts them again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ...models.sending import sent
from ..answers import Finite
from ..tiled_prior import Budget
from .call_cost import CallCost
from .information_gain import Evaluation, Gain, InformationGain, Spans
from .injection import Injection, coefficient
from .order import Order
from .regions import (
    Call,
    Move,
    Region,
    RegionOptions,
    Task,
    log_ratio,
    meeting_nodes,
    start_nodes,
)
from .step_policy import THRESHOLD, Place, StepPolicy

USUAL = 8  # regions of a call where their number is automatic and there is no CUDA device
SHARE = 0.3  # of the free memory that automatic calls fill; recording one takes as much again

Denoise = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
"""(x (B, C, h, w), sigma (B,), which tiles these are) -> x0_hat (B, C, h, w)."""


@dataclass(eq=False)
class RegionRun:
    """One run. Iterating makes network calls; afterwards `regions` hold the result.

    batch: the most regions in one call, halved when the GPU runs out of memory. 0 is automatic: on
    CUDA as many as fill a share of the free memory, unless `cost` knows that fewer do as well, for
    which the first calls have few; elsewhere `USUAL`.
    cost: what is known of this network's calls; they are timed.
    """

    denoise: Denoise
    task: Task
    policy: StepPolicy
    gain: InformationGain
    spans: Spans
    options: RegionOptions
    injection: Injection | None = None
    batch: int = 8
    cost: CallCost = field(default_factory=CallCost)
    regions: list[Region] = field(init=False)
    calls: list[Call] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        levels, options = self.task.sigmas.tolist(), self.options
        self.policy.check(tuple(levels))
        self.levels: list[float] = levels
        self.last = len(levels) - 1
        self.stops = meeting_nodes(len(levels), options.meetings)
        self.budget, self.finite = Budget(), Finite()
        starts = start_nodes(self.task, self.policy)
        pairs = zip(self.task.z_lr, self.task.noise, starts, strict=True)
        self.regions = [Region(z + options.noise * levels[i] * n, i, z) for z, n, i in pairs]

    def __iter__(self) -> Iterator[Call]:
        order = Order([region.node for region in self.regions], self.stops, self._side)
        while chosen := order.take(most := self.most()):
            began = time.perf_counter()
            made = self.budget.tried(len(chosen), partial(self._measured, chosen))
            if made is None:
                for k in chosen:
                    order.push(k, self.regions[k].node)
                continue
            gains, seen = made
            self.cost.add(len(chosen), time.perf_counter() - began)
            each = zip(chosen, seen.x0_hat, gains.full_reference, gains.no_reference, strict=True)
            moves = tuple(self._move(k, x0_hat, f.item(), n.item()) for k, x0_hat, f, n in each)
            call = Call(len(self.calls), moves, most)
            self.calls.append(call)
            for k in chosen:
                if not self.regions[k].left:
                    order.put(k, self.regions[k].node)
            if met := order.meeting():
                self._meet(*met)
            yield call
        self.finite.end()

    def most(self) -> int:
        """How many regions the next call may have."""
        device = self.task.z_lr.device
        if self.batch or device.type != "cuda":
            return self.budget.most(device, self.batch or USUAL)
        known = [self.budget.most(device, 0, SHARE), self.cost.probe, self.cost.enough]
        return min(n for n in known if n is not None)

    def _measured(self, chosen: list[int]) -> tuple[Gain, Evaluation]:
        """`_gains`, and what memory it takes where the number of regions is automatic."""
        device = self.task.z_lr.device
        return self.budget.measured(device, len(chosen), self.batch, lambda: self._gains(chosen))

    def _gains(self, chosen: list[int]) -> tuple[Gain, Evaluation]:
        """R_i and I_i (MMLE) of f_i, held to z_lr (PFJ): what the host waits for once a call.

        What is not finite is told a call later on a card, but for what nothing can be gained of.
        """
        seen = self._evaluate(chosen)
        gains = self.gain(seen)
        if not torch.isfinite(gains.full_reference + gains.no_reference).all():
            self.finite.end()
        return gains, seen

    @property
    def stretches(self) -> list[int]:
        """How many nodes lie between two places that no call passes: boundaries, and meetings."""
        nodes = range(len(self.levels))
        return [*Counter((self._side(i), sum(s <= i for s in self.stops)) for i in nodes).values()]

    def _side(self, node: int) -> int:
        """Between which boundaries a node lies; no call holds regions from two sides."""
        return sum(self.levels[node] > b for b in self.task.boundaries)

    def _move(self, k: int, x0_hat: Tensor, rise: float, sharper: float) -> Move:
        """DTSS: g^F and g^N of region k say how far it goes; its x there, or its result."""
        region, here = self.regions[k], self.regions[k].node
        verdict = self.policy.decide(region.history, rise, sharper, self._place(region), self.spans)
        region.rise, region.sharper = rise, sharper
        region.best = x0_hat if verdict.best else region.best
        if here == self.last:
            region.left, region.x0_hat = "end", x0_hat
        elif verdict.leave:
            assert region.best is not None
            region.left, region.x0_hat = "saturated", region.best
        else:
            ahead = [stop for stop in self.stops if stop > here]
            region.node = min(here + verdict.skip, self.last, *ahead)
            region.x = self._step(region, x0_hat, here)
            region.x0_hat, region.second = x0_hat, True
        region.before = here
        return k, here, verdict.kind, 0 if region.left else region.node - here

    def _evaluate(self, chosen: list[int]) -> Evaluation:
        """One network call, with the injection."""
        regions, task = [self.regions[k] for k in chosen], self.task
        x = torch.stack([r.x for r in regions])
        z_lr = torch.stack([task.z_lr[k] for k in chosen])
        nodes = [r.node for r in regions]
        x0_hat = self.denoise(x, sent(sigma := task.sigmas[nodes], x), chosen)
        self.finite.check(x0_hat, sigma, last=False)
        if self.injection:
            tau = self.policy.threshold / THRESHOLD / len(self.levels)
            alpha = [coefficient(r.sharper, tau, self.levels[r.node] <= task.half) for r in regions]
            tensor = torch.tensor(alpha, dtype=torch.float64)
            x0_hat = self.injection(x0_hat, z_lr, tensor, task.grid, chosen)
        befores = [n if r.before < 0 else r.before for n, r in zip(nodes, regions, strict=True)]
        previous = [d if r.before < 0 else r.x0_hat for d, r in zip(x0_hat, regions, strict=True)]
        following = task.sigmas[[min(n + 1, self.last) for n in nodes]]
        steps = torch.tensor([float(n - b) for n, b in zip(nodes, befores, strict=True)])
        return Evaluation(
            x, x0_hat, torch.stack(previous), z_lr,
            sigma, task.sigmas[befores], following, steps.double(),
        )  # fmt: skip

    def _place(self, region: Region) -> Place:
        sigma = self.levels[region.node]
        following = self.levels[min(region.node + 1, self.last)]
        steps = region.node - region.before if region.before >= 0 else 0
        return Place(sigma, log_ratio(sigma, following), sigma <= self.task.half, steps)

    def _step(self, region: Region, x0_hat: Tensor, here: int) -> Tensor:
        """x at the region's new node, from that at `here`: Euler, or dpm++ 2m."""
        sigma, following = self.levels[here], self.levels[region.node]
        towards = x0_hat
        if self.options.solver == "dpm++ 2m" and region.second:
            before = log_ratio(self.levels[region.before], sigma)
            reach = min(log_ratio(sigma, following) / (2 * before), 1.0)
            towards = x0_hat + reach * (x0_hat - region.x0_hat)
        return towards + following / sigma * (region.x - towards)

    def _meet(self, node: int, meeting: list[int]) -> None:
        """The states of the regions at `node` are stitched and cut again.

        One that has left, or began later, takes part with its prediction, noised to that level.
        """
        level, grid = self.options.noise * self.levels[node], self.task.grid
        noisy = [r.x0_hat + level * n for r, n in zip(self.regions, self.task.noise, strict=True)]
        for k in meeting:
            noisy[k] = self.regions[k].x
        agreed = grid.cut(grid.stitch(torch.stack(noisy)))
        for k in meeting:
            self.regions[k].x, self.regions[k].second = agreed[k], False

    def predictions(self, pictures: int | None = None) -> Tensor:
        """The tiles as they are known now, (K, C, tile, tile), or those of the first pictures."""
        count = None if pictures is None else pictures * self.task.grid.count
        return torch.stack([region.x0_hat for region in self.regions[:count]])

    @property
    def evaluations(self) -> list[int]:
        """Network evaluations of every tile so far."""
        return [region.history.evaluations for region in self.regions]

    @property
    def remaining(self) -> int:
        """About how many network calls are still to come, if regions go on as they do now."""
        ahead = [
            1 - (region.node - self.last) // region.history.skip
            for region in self.regions
            if not region.left
        ]
        most = self.calls[-1].most if self.calls else self.most()
        return max([-(-sum(ahead) // most), *ahead])
