"""A noise predictor trained by the clock, on pictures and degradations that live on the device.

The loss is that of `inversion_loss.py`; where there is a critic it counts from the first step, so
that a run with one goes on from a run without: first what is likely, then what looks sharp.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from ..models.pixel import PixelPrior
from ..pipelines.degradation.real_world import RealWorldDegradation, degrade
from ..pipelines.invsr.sampler import bicubic
from ..pipelines.metrics import gmsd, psnr
from .clock import Work, device_there, train_by_clock
from .command import read_prior
from .degraded_batches import DegradedBatches
from .distances import sobel
from .inversion_loss import SCALE, PredictorTask
from .predictor_files import MIXTURE, STRENGTHS, PredictorOptions, made, write_predictor
from .resident import SHOWN_SIDE, Resident, middles, some_of

FACTORS = (1, 2)  # half of the crops come from pictures reduced by 2, which are sharper
JUDGED = (0.342, 0.569)  # start levels of the validation


def train_predictor(options: PredictorOptions) -> int:
    """Train for `options.minutes` from now; returns the exit status.

    Raises `ValueError` where no folder of pictures is named, and for a latent prior.
    """
    deadline = time.monotonic() + 60 * options.minutes
    if not options.pictures:
        raise ValueError("Training by the clock needs a folder of pictures; name one: --pictures.")
    set_seed(options.seed)
    prior = read_prior(options.prior, options.prompt)
    if not isinstance(prior, PixelPrior):
        raise ValueError(f"{prior.spec.name} is no pixel prior of the pack; leave minutes out.")
    device = device_there()
    pictures = Resident(Path(options.pictures), device)
    predictor = made(options, prior)
    task = PredictorTask(predictor, prior, options, held_out(options))
    task.place(device)
    task.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if options.precision == "bf16":
        prior.network.to(torch.bfloat16)
    task.step = options.adversarial_from + 1
    draw = pairs_of(pictures, options)

    def loss(generator: torch.Generator) -> Tensor:
        terms = task(draw(generator), generator)
        return torch.stack(list(terms.values())).sum()

    def validate(averaged: Any) -> dict[str, float]:
        return {**judged(averaged), "balance": float(task.balance)}

    def write(averaged: Any, scores: dict[str, float], steps: int) -> None:
        write_predictor(averaged.predictor[0], options, scores, steps)

    work = Work(task, loss, validate, write, ())  # type: ignore[arg-type]  # captured, not compiled
    train_by_clock(work, options, device, deadline)
    return 0


def pairs_of(pictures: Resident, options: PredictorOptions) -> Any:
    """generator -> (low, high resolution) of a batch."""
    counts = [options.batch - options.batch // 2, options.batch // 2]
    degraded = DegradedBatches(MIXTURE, pictures.device, SCALE)
    order = torch.arange(options.batch)
    order = torch.cat([order[0::2], order[1::2]]).argsort()  # both reductions meet every strength
    order = order.to(pictures.device)

    def pairs(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        crops = [
            pictures.crops(generator, n, options.side, factor)
            for n, factor in zip(counts, FACTORS, strict=True) if n
        ]
        high = torch.cat(crops)[order]
        return degraded(high, generator), high

    return pairs


def held_out(options: PredictorOptions) -> tuple[Tensor, Tensor]:
    """Middles of the pictures to validate on, and what mild and StableSR make of them."""
    folder = Path(options.held_out or options.pictures)
    high = middles(some_of(folder), min(SHOWN_SIDE, 2 * options.side), folder)
    seeds = range(len(high))
    low = [degrade(high, RealWorldDegradation(name), seeds) for name in STRENGTHS]
    return torch.cat(low), high.repeat(2, 1, 1, 1)


@torch.no_grad()
def judged(task: PredictorTask) -> dict[str, float]:
    """dB over bicubic, GMSD below bicubic's, and sharpness, of mild and StableSR pictures."""
    low, high = task.held_out
    z, scores = bicubic(low, SCALE), {}
    for sigma in JUDGED:
        level = torch.full((len(low),), sigma, device=low.device)
        x0 = task.one_step(low, z, level, torch.zeros_like(z)).clamp(-1, 1)
        gain, closer = psnr(x0, high) - psnr(z, high), gmsd(z, high) - gmsd(x0, high)
        sharp = sobel(x0).flatten(1).mean(1) / sobel(high).flatten(1).mean(1)
        for what, values in (("gain", gain), ("gmsd", closer), ("sharp", sharp)):
            for name, part in zip(STRENGTHS, values.chunk(2), strict=True):
                scores[f"{what}_{sigma:.2g}_{name}"] = float(part.mean())
    return scores
