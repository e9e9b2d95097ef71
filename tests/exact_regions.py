"""Tiles with an exact denoiser: pixel p of tile k is N(mean, std^2) with its own mean and std.

    x0_hat = mean + std^2 / (std^2 + sigma^2) (x - mean)

and the probability-flow ODE has the solution x(s) = mean + (x(sigma) - mean) sqrt((std^2 + s^2) /
(std^2 + sigma^2)). Everything is element by element, so that no rounding depends on a batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from undegrade.pipelines.adadiffsr.information_gain import Spans, WeightFree
from undegrade.pipelines.adadiffsr.regions import RegionOptions, Task
from undegrade.pipelines.adadiffsr.sampler import RegionRun
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.schedule import karras
from undegrade.pipelines.tiling import TileGrid

FLAT, TEXTURE, ISLAND = range(3)


@dataclass(eq=False)
class ExactTiles:
    """mean, std: (K, C, tile, tile)."""

    mean: Tensor
    std: Tensor

    def __call__(self, x: Tensor, sigma: Tensor, tiles) -> Tensor:
        mean, variance = self.mean[tiles], self.std[tiles] ** 2
        return mean + variance / (variance + sigma[:, None, None, None] ** 2) * (x - mean)

    def solution(self, x: Tensor, start: float, end: float) -> Tensor:
        """x0_hat at `end` of the exact trajectory through x at `start`."""
        mean, std = self.mean.double(), self.std.double()
        x = mean + (x - mean) * ((std**2 + end**2) / (std**2 + start**2)).sqrt()
        return mean + std**2 / (std**2 + end**2) * (x - mean)


def kinds(count: int) -> list[int]:
    return [k % 3 for k in range(count)]


def scene(height=128, width=192, tile=64, overlap=0, steps=40, start=5.0, end=0.02, **known):
    """(denoiser, task): flat, textured, and flat tiles with a 16x16 island, in turn."""
    grid = TileGrid(height, width, tile, overlap)
    std = torch.full((grid.count, 1, tile, tile), 0.01)
    for k, kind in enumerate(kinds(grid.count)):
        if kind == TEXTURE:
            std[k] = 0.5
        elif kind == ISLAND:
            std[k, :, 24:40, 8:24] = 0.5
    z_lr = torch.zeros(grid.count, 1, tile, tile)
    canvas = per_sample_noise([7])(torch.zeros(1, 1, height, width))
    sigmas = karras(steps, start, end)
    return ExactTiles(z_lr.clone(), std), Task(grid, z_lr, grid.cut(canvas), sigmas, 1.6, **known)


SPANS_WAY, SPANS_SHARPER = 0.514, 0.682


def spans_of(task: Task) -> Spans:
    """About what calibration measures on `scene`."""
    way = (task.sigmas[0] / task.sigmas[-1]).log().item()
    loss = way / 2 / len(task.sigmas)
    return Spans(SPANS_WAY, SPANS_SHARPER, loss, tuple(task.sigmas.tolist()))


def run(denoise, task, policy=None, batch=4, injection=None, gain=None, **options) -> RegionRun:
    """A whole run."""
    spans = spans_of(task)
    chosen = RegionOptions(**{"noise": 1.0, **options})
    made = RegionRun(
        denoise, task, policy or StepPolicy(), gain or WeightFree(spans), spans, chosen,
        injection, batch,
    )  # fmt: skip
    for _ in made:
        pass
    return made
