"""The degradations every benchmark uses, all with noise of standard deviation 0.05 in [-1, 1]."""

from __future__ import annotations

import pack  # noqa: F401  (makes `undegrade` importable)
import torch
from photos import SIDE
from torch import Tensor

from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur

NOISE = 0.05
HIDDEN = 0.7
TITLES = {
    "super_resolution": "super-resolution x4",
    "motion": "motion deblurring",
    "gaussian": "Gaussian deblurring",
    "inpainting": "inpainting 70 %",
}


def motion_kernel() -> Tensor:
    """The random walk of seed 0, intensity 0.5, (61, 61)."""
    return RandomMotionBlur(side=61, intensity=0.5, seed=0).kernel()


def random_mask(count: int = 1, side: int = SIDE) -> Tensor:
    """(count, 1, side, side), exactly 70 % of the pixels hidden (0), another mask per picture."""
    hidden = int(HIDDEN * side * side)
    masks = torch.ones(count, side * side)
    for b in range(count):
        order = torch.randperm(side * side, generator=torch.Generator().manual_seed(b))
        masks[b, order[:hidden]] = 0
    return masks.view(count, 1, side, side)


def operators(count: int, side: int = SIDE) -> dict[str, Operator]:
    """One operator per task, for `count` pictures of side x side."""
    return {
        "super_resolution": Downscale(4),
        "motion": RandomMotionBlur(side=61, intensity=0.5, seed=0),
        "gaussian": GaussianBlur(std=3.0),
        "inpainting": Inpainting(random_mask(count, side)),
    }


def measurements(truth: Tensor, first_seed: int = 1000) -> dict[str, Measurement]:
    """Every task's measurement of the pictures, (B, 3, H, W); picture b has noise of its own."""
    noise = [first_seed + b for b in range(len(truth))]
    return {
        name: simulate(truth, operator, NOISE, per_sample_noise(noise))
        for name, operator in operators(len(truth), truth.shape[-1]).items()
    }
