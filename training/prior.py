"""Trains a pixel prior at full, half and quarter resolution, or fine-tunes one to them.

Reference: SubDAPS++ (arXiv 2605.14267), whose one training step is to show a prior pictures that
were reduced by averaging; EDM, Karras et al., 2022 (arXiv 2206.00364), for the loss:

    x = x0 + sigma n,   loss = (sigma^2 + sd^2) / (sigma sd)^2 |D(x, sigma, factor) - x0|^2

with sd = 0.5. For the small network of `models/pixel.py` that is a target of unit variance; for a
network that predicts eps it is the square of its error, up to (1 + sigma^2 / sd^2). Where we depart
from EDM: a share of the samples holds less noise than the network is told (`held_share`).

Without `like` the small network is trained from nothing. With it any pixel prior that the pack
loads goes on from where it was: a file of the pack, an ADM checkpoint, a diffusers folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..models.discrete import DiscretePrior
from ..models.pixel import PixelNetwork, PixelPrior
from ..models.prior import Prior, PriorSpec
from ..models.registry import load_pixel_prior
from ..pipelines.metrics import psnr
from ..pipelines.noise import per_sample_noise
from ..pipelines.options import option
from ..pipelines.prior_errors import errors
from ..pipelines.step import column
from .command import command_line, read_options, samples_seen, write_weights
from .data import SourceOptions, described, source, stream
from .loop import Task, start, train
from .widening import widened

SIGMA_DATA = 0.5
FACTORS, FACTOR_ODDS = (1, 2, 4), (0.6, 0.25, 0.15)
OFTEN = {1: (0.015, 1.0), 2: (0.1, 4.0), 4: (0.3, 12.0)}  # factor -> sigma, where samplers use it
SELDOM, OFTEN_ODDS = (0.005, 80.0), 0.85  # intervals of sigma, ln uniform
CALMER = 0.15  # share of samples that hold less noise than is told
OF_255 = (15, 25, 50)  # noise levels of the validation
HELD_OUT = 8  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


@dataclass(frozen=True)
class PriorOptions(SourceOptions):
    """Options of this script."""

    like: str = option("", "Prior to go on from, a file or a diffusers folder; empty: none.")
    widths: str = option(
        "",
        "Channels per resolution, the finest first; more than those of `like` widen its network. "
        "Empty: those of `like`, or 32,64,96,160.",
    )
    side: int = option(64, "Side of the crops in pixels, at each resolution.", min=16, step=16)


@dataclass(frozen=True, eq=False)
class Resolutions(Dataset):
    """Pictures reduced by averaging: sample i is ((3, side, side) in [-1, 1], its factor).

    crops: data sets of the same pictures with crops of side, 2 side, 4 side, one per factor.
    """

    crops: Sequence[Dataset]
    seed: int

    def __len__(self) -> int:
        """Samples."""
        return len(self.crops[0])  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Sample `index`."""
        level = int(stream(self.seed, index, 2).choice(len(FACTORS), p=FACTOR_ODDS))
        factor = FACTORS[level]
        return F.avg_pool2d(self.crops[level][index], factor), factor


class PriorTask(Task):
    """A prior's network under the loss above."""

    def __init__(self, prior: PixelPrior | DiscretePrior, held_out: Tensor) -> None:
        super().__init__()
        self.network = prior.network.requires_grad_(True)
        self.priors = [replace(prior, clip=None) if isinstance(prior, DiscretePrior) else prior]
        self.held_out = held_out

    def place(self, device: torch.device) -> None:
        """The held-out pictures."""
        self.held_out = self.held_out.to(device)

    def forward(
        self, batch: tuple[Tensor, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """The loss at noise levels that are drawn."""
        x0, factors = batch
        sigma = draw_sigmas(factors.cpu(), generator, self.priors[0].spec).to(x0.device)
        s = column(sigma, x0)
        held = sigma * held_share(len(x0), generator).to(x0.device)
        n = torch.randn(x0.shape, generator=generator).to(x0.device)
        x = x0 + column(held, n) * n
        weight = (s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2
        total = x0.new_zeros(())
        for factor in FACTORS:
            mine = factors == factor
            if mine.any():
                x0_hat = self.priors[0].denoise(x[mine], sigma[mine], factor)
                total = total + (weight[mine] * (x0_hat - x0[mine]).square()).sum()
        return {"loss": total / x0.numel()}

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """PSNR as a Gaussian denoiser of canvases it has not seen."""
        x0 = self.held_out
        n = per_sample_noise(list(range(len(x0))))(x0)
        scores, shown = {}, [x0[:4]]
        for level in OF_255:
            sigma = torch.full((len(x0),), 2 * level / 255, device=x0.device)
            x0_hat = self.priors[0].denoise(x0 + 2 * level / 255 * n, sigma)
            scores[f"psnr_{level}"] = float(psnr(x0_hat, x0).mean())
            shown.append(x0_hat[:4])
        return scores, torch.cat(shown)


def draw_sigmas(factors: Tensor, generator: torch.Generator, spec: PriorSpec) -> Tensor:
    """Noise levels, (B,), for pictures reduced by factors, (B,), within what the prior's table has.

    A reduced picture is met early in a run, at high noise; at times any is drawn for any.
    """
    count = len(factors)
    often, share = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    own = torch.tensor([OFTEN[int(factor)] for factor in factors])
    bounds = torch.where((often < OFTEN_ODDS)[:, None], own, torch.tensor(SELDOM))
    low, high = bounds.log().unbind(1)
    sigma = (low + (high - low) * share).exp()
    return sigma if spec.sigmas is None else sigma.clamp(spec.sigma_min, spec.sigma_max)


def held_share(count: int, generator: torch.Generator) -> Tensor:
    """The noise that a sample holds over what the network is told, (count,): 1, or less.

    Plug-and-play restoration tells of noise that is not there; without such samples the network
    answered a clean picture with colours far out of range.
    """
    calmer, share = torch.rand(count, generator=generator), torch.rand(count, generator=generator)
    return torch.where(calmer < CALMER, share, 1.0)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/prior.safetensors`, or a diffusers folder `<out>/prior`."""
    options = read_options(PriorOptions, arguments, "Trains or fine-tunes a pixel prior.")
    accelerator = start(options)
    length = options.steps * options.batch * accelerator.num_processes
    with accelerator.main_process_first():  # the others find the canvases drawn
        data = pictures(options, options.seed, length)
        others = replace(options, pictures="", canvases=UNSEEN)
        unseen = pictures(others, options.seed + 1, HELD_OUT).crops[1]
    held_out = torch.stack([unseen[i] for i in range(HELD_OUT)])
    prior = made(options)
    task = PriorTask(prior, held_out)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
            write_prior(prior, options, scores, task.held_out[:4])
    return 0


def pictures(options: PriorOptions, seed: int, length: int) -> Resolutions:
    """The pictures of a run at three resolutions."""
    crops = [source(options, options.side * factor, seed, length) for factor in FACTORS]
    return Resolutions(crops, seed)


def made(options: PriorOptions) -> PixelPrior | DiscretePrior:
    """The prior to train. Raises `ValueError` for one whose network cannot be trained here."""
    widths = tuple(int(part) for part in options.widths.split(",")) if options.widths else None
    if not options.like:
        return pixel_prior(PixelNetwork(widths) if widths else PixelNetwork())
    prior: Prior = load_pixel_prior(options.like)
    if not isinstance(prior, PixelPrior | DiscretePrior):
        raise ValueError(f"{options.like} is a {type(prior).__name__}; name a pixel prior's file.")
    if options.side % prior.spec.multiple_of:
        raise ValueError(
            f"The crops have a side of {options.side} pixels; {options.like} needs a multiple of "
            f"{prior.spec.multiple_of}."
        )
    if not widths:
        return prior
    if not isinstance(prior, PixelPrior) or not isinstance(prior.network, PixelNetwork):
        raise ValueError(f"{options.like} has no widths that could grow; leave widths out.")
    return pixel_prior(widened(prior.network, widths))


def pixel_prior(network: PixelNetwork) -> PixelPrior:
    """The prior of a small network."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PixelPrior(network, PriorSpec(multiple_of=network.multiple_of))


def write_prior(
    prior: PixelPrior | DiscretePrior, options: PriorOptions, scores: dict[str, float], x0: Tensor
) -> None:
    """A file for the small network, with its error on x0; a diffusers folder for others."""
    out, said = Path(options.out), history(options, scores)
    if isinstance(prior, PixelPrior):
        *_, curve = errors(prior, x0, FACTORS)
        said["error_curve"] = curve.text()
        write_weights(prior.network, out / "prior.safetensors", said)
        return
    import json

    from diffusers import DDPMScheduler  # pyright: ignore[reportPrivateImportUsage]

    prior.network.register_to_config(sample_size=prior.spec.native_size)  # type: ignore[operator]
    prior.network.save_pretrained(out / "prior" / "unet")  # type: ignore[operator]
    abar = 1 / (1 + prior.spec.sigmas**2)  # type: ignore[operator]
    betas = 1 - abar / torch.cat([abar.new_ones(1), abar[:-1]])
    scheduler = DDPMScheduler(
        len(betas),
        trained_betas=betas.tolist(),
        prediction_type=prior.prediction,  # pyright: ignore[reportArgumentType]
        clip_sample=prior.clip is not None,
        clip_sample_range=prior.clip or 1.0,
    )
    scheduler.save_pretrained(out / "prior" / "scheduler")
    (out / "prior" / "training.json").write_text(json.dumps(said, indent=1) + "\n")


def history(options: PriorOptions, scores: dict[str, float]) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "multi-resolution pixel prior, EDM preconditioning",
        "sigma_min": "0.01",
        "sigma_max": "80.0",
        "command": command_line("prior", options),
        "seed": str(options.seed),
        "data": described(options),
        "steps": str(options.steps),
        "samples": samples_seen(options.steps, options.batch),
        "started_from": Path(options.like).name or "nothing",
        "held_out_scores": scores,
    }
