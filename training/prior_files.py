"""What a prior is trained from, and what is written of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.discrete import DiscretePrior
from ..models.pixel import PixelNetwork, PixelPrior
from ..models.prior import Prior, PriorSpec
from ..models.registry import load_pixel_prior
from ..pipelines.options import option
from ..pipelines.prior_errors import errors
from .clock import LAUNCHES
from .command import command_line, samples_seen, write_weights
from .data import SourceOptions, described
from .widening import grown

FACTORS = (1, 2, 4)


@dataclass(frozen=True)
class PriorOptions(SourceOptions):
    """Options of this script."""

    like: str = option("", "Prior to go on from, a file or a diffusers folder; empty: none.")
    widths: str = option(
        "",
        "Channels per resolution, the finest first; more than those of `like` widen its network. "
        "Empty: those of `like`, or 32,64,96,160.",
    )
    blocks: int = option(
        0, "Blocks per resolution; more deepen the network of `like`. 0: those of `like`, or 2.",
        min=0, max=16,
    )
    side: int = option(64, "Side of the crops in pixels, at each resolution.", min=16, step=16)
    minutes: float = option(
        0.0,
        "Train by the clock, on one device: pictures live there, the rate falls to zero as the "
        "time runs out, and `steps` counts for nothing. 0: by steps.",
        min=0.0,
    )
    launch: str = option(
        "auto",
        "By the clock: 'auto' compiles and captures on a card; 'compiled' compiles anywhere, "
        "'captured' captures only, 'plain' does neither.",
        choices=LAUNCHES,
    )
    restored: float = option(
        0.0,
        "By the clock: share of the samples that hold what a restoration's update leaves of an "
        "error of the network, too.",
        min=0.0,
        max=1.0,
    )
    held_out: str = option(
        "", "By the clock: folder of pictures to validate on; empty draws canvases."
    )


def made(options: PriorOptions) -> PixelPrior | DiscretePrior:
    """The prior to train. Raises `ValueError` for one whose network cannot be trained here."""
    widths = tuple(int(part) for part in options.widths.split(",")) if options.widths else None
    if not options.like:
        sizes = {"widths": widths or None, "blocks": options.blocks or None}
        return pixel_prior(PixelNetwork(**{k: v for k, v in sizes.items() if v}))
    prior: Prior = load_pixel_prior(options.like)
    if not isinstance(prior, PixelPrior | DiscretePrior):
        raise ValueError(f"{options.like} is a {type(prior).__name__}; name a pixel prior's file.")
    if options.side % prior.spec.multiple_of:
        raise ValueError(
            f"The crops have a side of {options.side} pixels; {options.like} needs a multiple of "
            f"{prior.spec.multiple_of}."
        )
    if not widths and not options.blocks:
        return prior
    if not isinstance(prior, PixelPrior) or not isinstance(prior.network, PixelNetwork):
        raise ValueError(f"{options.like} has no widths that could grow; leave widths out.")
    widths = widths or tuple(blocks[0].a.out_channels for blocks in prior.network.enc)
    return pixel_prior(grown(prior.network, widths, options.blocks))


def pixel_prior(network: PixelNetwork) -> PixelPrior:
    """The prior of a small network."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PixelPrior(network, PriorSpec(multiple_of=network.multiple_of))


def write_prior(
    prior: PixelPrior | DiscretePrior,
    options: PriorOptions,
    scores: dict[str, float],
    x0: Tensor | None,
    steps: int = 0,
) -> None:
    """A file for the small network, with its error on x0, if given; a diffusers folder for others.

    steps: how many there were, where not as many as the options ask for.
    """
    out, said = Path(options.out), history(options, scores, steps or options.steps)
    if isinstance(prior, PixelPrior):
        if x0 is not None:
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


def history(options: PriorOptions, scores: dict[str, float], steps: int) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "multi-resolution pixel prior, EDM preconditioning",
        "sigma_min": "0.01",
        "sigma_max": "80.0",
        "command": command_line("prior", options),
        "seed": str(options.seed),
        "data": described(options),
        "steps": str(steps),
        "samples": samples_seen(steps, options.batch),
        "started_from": Path(options.like).name or "nothing",
        "held_out_scores": scores,
    }
