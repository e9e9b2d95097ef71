"""A prior trained by the clock, on pictures that live on the device.

The loss is that of `training/prior.py`. A batch holds a fixed number of crops of each reduction, in
one call of the network; noise levels are drawn as there, but for half of the unreduced pictures,
which are seen where denoising is judged: at 10 to 64 of 255.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
from accelerate.utils import set_seed
from torch import Tensor, nn

from ..models.pixel import Block, PixelPrior
from ..pipelines.metrics import psnr
from ..pipelines.noise import per_sample_noise
from ..pipelines.operators.canvas import pool
from ..pipelines.step import column
from .clock import Work, device_there, said, train_by_clock
from .data import stream
from .prior_files import FACTORS, PriorOptions, made, write_prior
from .prior_loss import CALMER, FACTOR_ODDS, OF_255, OFTEN, OFTEN_ODDS, SELDOM, SIGMA_DATA
from .resident import SHOWN_SIDE, Resident, middles, some_of
from .restored_states import RestoredStates
from .synthetic import canvas

MIDDLE, MIDDLE_ODDS = (0.08, 0.5), 0.5  # sigma, and its share of unreduced pictures
CANVAS_SIDE = 512
UNSEEN = 1  # added to the seed of the canvases that are validated on


def train_prior(options: PriorOptions) -> int:
    """Train for `options.minutes` from now; returns the exit status.

    Raises `ValueError` where no folder of pictures is named, or for a prior that is no
    `PixelPrior`.
    """
    began = time.monotonic()
    if not options.pictures:
        raise ValueError("Training by the clock needs a folder of pictures; name one: --pictures.")
    set_seed(options.seed)
    prior = made(options)
    if not isinstance(prior, PixelPrior):
        raise ValueError(f"{options.like} cannot be trained by the clock; leave minutes out.")
    drawn = canvases(options.canvases, options.seed) if options.drawn else None
    held_out = held_out_pictures(options)
    device = device_there()
    held_out = held_out.to(device)
    pictures = Resident(Path(options.pictures), device, drawn, options.drawn)
    prior.network.to(device, memory_format=torch.channels_last).requires_grad_(True)  # type: ignore[call-overload]

    def validate(network: nn.Module) -> dict[str, float]:
        return denoised_psnr(replace(prior, network=network), held_out)

    def write(network: nn.Module, scores: dict[str, float], steps: int) -> None:
        write_prior(replace(prior, network=network), options, scores, None, steps)

    said(f"{len(pictures.sizes)} pictures on {device} after {time.monotonic() - began:.1f} s")
    deadline = began + 60 * options.minutes
    work = Work(prior.network, loss_of(prior, pictures, options), validate, write, Block)
    network, scores, steps = train_by_clock(work, options, device, deadline, options.launch)
    with torch.inference_mode():
        write_prior(replace(prior, network=network), options, scores, held_out[:4], steps)
    return 0


def loss_of(
    prior: PixelPrior, pictures: Resident, options: PriorOptions
) -> Callable[[torch.Generator], Tensor]:
    """The loss of a batch that a generator of the device draws."""
    counts = dict(zip(FACTORS, parts(options.batch), strict=True))
    factors = torch.repeat_interleave(torch.tensor(FACTORS), torch.tensor(list(counts.values())))
    level, (odds, low, high) = factors.float().log2(), noise_intervals(factors)
    level, odds, low, high = (t.to(pictures.device) for t in (level, odds, low, high))
    run = (counts, options.side, options.seed, pictures.device)
    states = RestoredStates(options.restored, *run) if options.restored else None

    def loss(generator: torch.Generator) -> Tensor:
        wholes, x0 = crops(pictures, generator, counts, options.side, states is not None)
        u = torch.rand(4, len(x0), 1, generator=generator, device=x0.device)
        chosen = (u[0] > odds).sum(1, keepdim=True)
        lowest, highest = low.gather(1, chosen), high.gather(1, chosen)
        sigma = (lowest + (highest - lowest) * u[1])[:, 0].exp()
        held = sigma * torch.where(u[2] < CALMER, u[3], 1.0)[:, 0]
        n = torch.randn(x0.shape, generator=generator, device=x0.device)
        noise = column(held, n) * n
        given = (wholes, sigma, level, generator)
        x = states.added(prior, x0, noise, *given) if states else x0 + noise
        x0_hat = prior.denoise_levels(x, sigma, level)
        s = column(sigma, x0)
        weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
        return (weight * (x0_hat - x0).square()).mean()

    return loss


def crops(
    pictures: Resident, generator: torch.Generator, counts: dict[int, int], side: int, whole: bool
) -> tuple[list[Tensor], Tensor]:
    """A batch with counts of each reduction, (B, 3, side, side), and, where asked for, the whole
    pictures of which they are the averages."""
    if not whole:
        reduced = [pictures.crops(generator, n, side, f) for f, n in counts.items() if n]
        return [], torch.cat(reduced)
    wholes = [pictures.crops(generator, n, side * f) for f, n in counts.items() if n]
    return wholes, torch.cat([pool(w, w.shape[-1] // side) for w in wholes])


def parts(batch: int) -> list[int]:
    """How many crops of a batch have each reduction."""
    counts = [round(batch * share) for share in FACTOR_ODDS[1:]]
    return [batch - sum(counts), *counts]


def noise_intervals(factors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What noise levels are drawn from for pictures reduced by factors, (B,).

    Cumulative odds (B, 2) of three intervals, and the logarithms of their bounds, (B, 3) each.
    """
    rows = []
    for factor in factors.tolist():
        middle = MIDDLE_ODDS if factor == 1 else 0.0
        intervals = (MIDDLE, OFTEN[factor], SELDOM)
        rows.append([(middle, middle + (1 - middle) * OFTEN_ODDS)])
        rows[-1] += zip(*intervals, strict=True)
    odds, low, high = (torch.tensor(column) for column in zip(*rows, strict=True))
    return odds, low.log(), high.log()


def denoised_psnr(prior: PixelPrior, x0: Tensor) -> dict[str, float]:
    """PSNR in dB as a Gaussian denoiser at 15, 25 and 50 of 255, the mean of x0, (B, 3, h, w)."""
    noise, scores = per_sample_noise(range(len(x0)))(x0), {}
    with torch.inference_mode():
        for level in OF_255:
            sigma = torch.full((len(x0),), 2 * level / 255, device=x0.device)
            x0_hat = prior.denoise(x0 + 2 * level / 255 * noise, sigma)
            scores[f"psnr_{level}"] = float(psnr(x0_hat, x0).mean())
    return scores


def held_out_pictures(options: PriorOptions) -> Tensor:
    """Middles of the pictures to validate on, or of canvases of another seed, in [-1, 1]."""
    folder = Path(options.held_out)
    shown = some_of(folder) if options.held_out else canvases(4, options.seed + UNSEEN)
    return middles(list(shown), min(SHOWN_SIDE, 2 * options.side), folder)


def canvases(count: int, seed: int) -> np.ndarray:
    """Those of `training/data.py`'s `render`, in memory, drawn by all cores."""
    seeds = [int(own) for own in stream(seed).integers(0, 2**62, count)]
    with get_context("fork").Pool(min(count, cpu_count() or 1)) as pool:
        return np.stack(pool.map(_drawn, seeds, chunksize=1))


def _drawn(seed: int) -> np.ndarray:
    return canvas(seed, CANVAS_SIDE)
