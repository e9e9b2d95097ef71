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

One run is a heap of regions, the least advanced first, from which full batches are taken with a
noise level for every sample; there is no common clock, so that batches stay full although regions
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

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..prediction import check_finite
from .information_gain import Evaluation, InformationGain, Spans
from .injection import Injection, coefficient
from .regions import Call, Region, RegionOptions, Task, log_ratio, meeting_nodes, start_nodes
from .step_policy import THRESHOLD, Place, StepPolicy

Denoise = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
"""(x (B, C, h, w), sigma (B,), which tiles these are) -> x0_hat (B, C, h, w)."""


@dataclass(eq=False)
class RegionRun:
    """One run. Iterating makes network calls; afterwards `regions` hold the result.

    batch: the most regions in one call.
    """

    denoise: Denoise
    task: Task
    policy: StepPolicy
    gain: InformationGain
    spans: Spans
    options: RegionOptions
    injection: Injection | None = None
    batch: int = 8
    regions: list[Region] = field(init=False)
    calls: list[Call] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        levels, options = self.task.sigmas.tolist(), self.options
        self.policy.check(tuple(levels))
        self.levels: list[float] = levels
        self.last = len(levels) - 1
        self.stops = meeting_nodes(len(levels), options.meetings)
        starts = start_nodes(self.task, self.policy)
        pairs = zip(self.task.z_lr, self.task.noise, starts, strict=True)
        self.regions = [Region(z + options.noise * levels[i] * n, i, z) for z, n, i in pairs]

    def __iter__(self) -> Iterator[Call]:
        heap = [(region.node, k) for k, region in enumerate(self.regions)]
        heapq.heapify(heap)
        waiting: list[int] = []
        while heap:
            chosen = self._take(heap)
            call = self._advance(chosen)
            self.calls.append(call)
            for k in chosen:
                region = self.regions[k]
                if not region.left and region.node in self.stops:
                    waiting.append(k)
                elif not region.left:
                    heapq.heappush(heap, (region.node, k))
            if waiting and not heap:
                node = min(self.regions[k].node for k in waiting)
                meeting = sorted(k for k in waiting if self.regions[k].node == node)
                self._meet(node, meeting)
                heap = [(node, k) for k in meeting]
                waiting = [k for k in waiting if k not in meeting]
            yield call

    def _take(self, heap: list[tuple[int, int]]) -> list[int]:
        """The next regions, at most a batch, all on the same side of every boundary."""
        chosen, others, side = [], [], None
        while heap and len(chosen) < self.batch:
            node, k = heapq.heappop(heap)
            mine = sum(self.levels[node] > b for b in self.task.boundaries)
            side = mine if side is None else side
            if mine == side:
                chosen.append(k)
            else:
                others.append((node, k))
        for entry in others:
            heapq.heappush(heap, entry)
        return chosen

    def _advance(self, chosen: list[int]) -> Call:
        """Evaluate these regions and take each to where it goes next."""
        seen = self._evaluate(chosen)
        gains = self.gain(seen)
        moves = []
        for row, k in enumerate(chosen):
            region, x0_hat = self.regions[k], seen.x0_hat[row]
            at = self._place(region)
            rise, sharper = gains.full_reference[row].item(), gains.no_reference[row].item()
            verdict = self.policy.decide(region.history, rise, sharper, at, self.spans)
            region.sharper, region.rise = sharper, rise
            region.best = x0_hat if verdict.best else region.best
            here, target = region.node, self._target(region.node + verdict.skip, region.node)
            if here == self.last or verdict.leave:
                region.left = "saturated" if verdict.leave and here < self.last else "end"
                result = region.best if region.left == "saturated" else x0_hat
                assert result is not None
                region.x0_hat = result
            else:
                region.x = self._step(region, x0_hat, target)
                region.x0_hat, region.second = x0_hat, True
                region.node = target
            region.before = here
            moves.append((k, here, verdict.kind, 0 if region.left else target - here))
        return Call(len(self.calls), tuple(moves))

    def _evaluate(self, chosen: list[int]) -> Evaluation:
        """One network call, with the injection."""
        regions, task = [self.regions[k] for k in chosen], self.task
        x = torch.stack([r.x for r in regions])
        z_lr = task.z_lr[chosen]
        nodes = [r.node for r in regions]
        sigma = task.sigmas[nodes]
        x0_hat = self.denoise(x, sigma.to(x), chosen)
        check_finite(x0_hat, sigma)
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

    def _target(self, wanted: int, here: int) -> int:
        """The node to go to: not past the last, nor past a meeting."""
        ahead = [stop for stop in self.stops if stop > here]
        return min([wanted, self.last, *ahead])

    def _step(self, region: Region, x0_hat: Tensor, target: int) -> Tensor:
        """x at node `target`."""
        sigma, following = self.levels[region.node], self.levels[target]
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
        live = [region for region in self.regions if not region.left]
        ahead = [1 - (region.node - self.last) // region.history.skip for region in live]
        return max([-(-sum(ahead) // self.batch), *ahead])
