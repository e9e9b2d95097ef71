"""Trains the starting noise of InvSR for a pixel prior.

Reference: InvSR, Yue, Liao and Loy, CVPR 2025 (arXiv 2412.09013), section 3. With z the enlarged
low-resolution picture and the prior D frozen,

    n = mean + std eps,   x0 = D(z + sigma n, sigma)
    loss = |x0 - truth|^2 / |z - truth|^2 + w edges(x0, truth) / edges(z, truth)

after one step of the prior, from a start level drawn for each sample, ln sigma uniform.

Where we depart: errors are counted in units of bicubic's of the whole batch, so that the two terms
weigh alike whatever the pictures. The state is the picture itself, since the built-in
prior has no latent space. The paper draws its start from four timesteps; ours covers the interval
they lie in. The paper's perceptual term is a VGG16 of its own; here it is a distance of gradient
magnitudes at two scales, which needs no weights of others. The paper's hinge GAN, which starts
after 10,000 of its 100,000 steps, is not trained: it invents detail, and this prior is too small to
judge it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.pixel_predictor import START_SIGMAS, PixelPredictor, PixelPredictorNetwork, load
from ..models.prior import Prior
from ..models.registry import BUILT_IN, load_pixel_prior, networks_of
from ..models.weights import read_tensors
from ..pipelines.metrics import psnr
from ..pipelines.options import option
from .command import command_line, read_options, write_weights
from .data import DegradedPairs, SourceOptions, described, source
from .loop import Task, start, train

STRENGTHS = ("mild", "StableSR")
SMALL = 1e-4  # keeps the loss of flat pictures finite
CHECKED_SIGMAS = (0.15, 0.25, 0.4, 0.7)
HELD_OUT = 16  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


@dataclass(frozen=True)
class PredictorOptions(SourceOptions):
    """Options of this script."""

    prior: str = option("", "Weight file of the frozen pixel prior; empty is the built-in one.")
    canvases: int = option(400, "How many canvases are drawn, where any are.", min=1)
    side: int = option(64, "Side of the high-resolution crops in pixels.", min=32, step=16)
    edges: float = option(0.2, "Weight of the distance of gradient magnitudes.", min=0.0)
    widths: str = option("48,80,112", "Channels per resolution of a network made anew.")
    like: str = option("", "Weight file of a predictor to go on from; empty starts afresh.")


class PredictorTask(Task):
    """The predictor's network under the loss above."""

    def __init__(
        self, network: torch.nn.Module, prior: Prior, edges: float,
        held_out: tuple[Tensor, Tensor],
    ) -> None:
        super().__init__()
        self.network, self.edges = network, edges
        self.frozen, self.held_out = [prior], held_out

    def place(self, device: torch.device) -> None:
        """The prior and the held-out pictures."""
        for network in networks_of(self.frozen[0]):
            network.to(device)
        self.held_out = (self.held_out[0].to(device), self.held_out[1].to(device))

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss at start levels that are drawn."""
        low, high = batch
        log_low, log_high = math.log(min(START_SIGMAS)), math.log(max(START_SIGMAS))
        share = torch.rand(low.shape[0], generator=generator)
        sigma = (log_low + (log_high - log_low) * share).exp()
        eps = torch.randn(high.shape, generator=generator).to(high.device)
        x0, z = self.one_step(low, sigma.to(high.device), eps), enlarged(low)
        return {
            "square": square_distance(x0, high).mean() / (square_distance(z, high).mean() + SMALL),
            "edges": self.edges
            * edge_distance(x0, high).mean() / (edge_distance(z, high).mean() + SMALL),
        }

    def one_step(self, low: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
        """D(z + sigma (mean + std eps), sigma), (B, 3, 4 h, 4 w)."""
        mean, std = PixelPredictor(self.network).predict(low, sigma)
        z = enlarged(low)
        x = z + sigma[:, None, None, None] * (mean + std * eps)
        return self.frozen[0].denoise(x, sigma)

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """PSNR on drawn pictures of another seed, and what it looks like at the second level."""
        low, high = self.held_out
        scores, x0 = {"bicubic": float(psnr(enlarged(low), high).mean())}, low
        for sigma in CHECKED_SIGMAS:
            level = torch.full((low.shape[0],), sigma, device=low.device)
            x0 = self.one_step(low, level, torch.zeros_like(high))
            scores[f"psnr_{sigma}"] = float(psnr(x0, high).mean())
        shown = [enlarged(low)[:4], x0[:4], high[:4]]
        return scores, torch.cat(shown)


def enlarged(low: Tensor) -> Tensor:
    """z: four times the size, bicubic."""
    return F.interpolate(low, scale_factor=4, mode="bicubic", align_corners=False)


def square_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean square error of each sample, (B,)."""
    return (x - truth).square().flatten(1).mean(1)


def edge_distance(x: Tensor, truth: Tensor) -> Tensor:
    """Mean of ||grad x| - |grad truth|| at full and half size, Sobel, per colour; (B,)."""
    from kornia.filters import sobel

    total = x.new_zeros(x.shape[0])
    for reduction in (1, 2):
        a, b = (F.avg_pool2d(p, reduction) for p in (x, truth))
        total = total + (sobel(a) - sobel(b)).abs().flatten(1).mean(1)
    return total / 2


def pairs(options: PredictorOptions, seed: int, length: int) -> DegradedPairs:
    """Degraded pairs of the chosen pictures."""
    return DegradedPairs(source(options, options.side, seed, length), seed, STRENGTHS)


def held_out(options: PredictorOptions) -> tuple[Tensor, Tensor]:
    """Pairs of another seed; canvases that the training does not see."""
    other = replace(options, pictures="", canvases=UNSEEN, side=128)
    drawn = [pairs(other, options.seed + 1, HELD_OUT)[i] for i in range(HELD_OUT)]
    low, high = zip(*drawn, strict=True)
    return torch.stack(low), torch.stack(high)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/predictor.safetensors`."""
    options = read_options(PredictorOptions, arguments, "Trains a noise predictor.")
    accelerator = start(options)
    with accelerator.main_process_first():  # the others find the canvases drawn
        data = pairs(options, options.seed, options.steps * options.batch *
                     accelerator.num_processes)
        seen = held_out(options)
    file = Path(options.prior) if options.prior else BUILT_IN
    prior = load_pixel_prior(file)
    task = PredictorTask(made(options), prior, options.edges, seen)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
        write_weights(
            task.network, Path(options.out) / "predictor.safetensors",
            history(options, file.name, scores),
        )
    return 0


def made(options: PredictorOptions) -> torch.nn.Module:
    """The network to train."""
    if options.like:
        tensors, metadata = read_tensors(options.like)
        return load(tensors, metadata, options.like).network.requires_grad_(True)
    network = PixelPredictorNetwork(tuple(int(part) for part in options.widths.split(",")))
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def history(options: PredictorOptions, prior: str, scores: dict[str, float]) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "start noise for a pixel prior, 4 times enlargement",
        "sigmas": ", ".join(map(str, START_SIGMAS)),
        "prior": prior,
        "command": command_line("noise_predictor", options),
        "seed": str(options.seed),
        "data": described(options),
        "degradation": ", ".join(STRENGTHS) + " of Real-World Degradation",
        "steps": str(options.steps),
        "samples": str(options.steps * options.batch),
        "held_out_scores": scores,
    }
