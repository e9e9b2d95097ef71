"""What a noise predictor is trained from, and what is written of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..models.pixel_predictor import START_SIGMAS, PixelPredictor, PixelPredictorNetwork
from ..models.predictors import load_noise_predictor
from ..models.prior import Prior
from ..models.registry import BUILT_IN
from ..pipelines.options import option
from .command import command_line, samples_seen, write_weights
from .data import SourceOptions, described
from .grown_predictor import grown
from .inversion_loss import LossOptions

STRENGTHS = ("mild", "StableSR")
MIXTURE = ("mild", "StableSR", "mild", "StableSR", "InvSR")  # by the clock, a fifth each
BLOCKS = 2  # per resolution of a network made anew


@dataclass(frozen=True)
class PredictorOptions(LossOptions, SourceOptions):
    """Options of this script."""

    prior: str = option(
        "",
        "The frozen prior: a pixel prior's weight file, or a diffusers folder, also of a latent "
        "model such as SD-Turbo. Empty is the built-in one.",
    )
    prompt: str = option("", "Text that a latent prior reads.")
    canvases: int = option(400, "How many canvases are drawn, where any are.", min=1)
    side: int = option(64, "Side of the high-resolution crops in pixels.", min=32, step=16)
    widths: str = option(
        "48,80,112",
        "Channels per resolution of a network made anew; more than those of `like` widen its "
        "network.",
    )
    like: str = option(
        "",
        "Weight file of a predictor to go on from, a published one for a latent prior; empty makes "
        "a small one for a pixel prior.",
    )
    blocks: int = option(
        0, "Blocks per resolution; more deepen the network of `like`. 0: those of `like`, or 2.",
        min=0, max=16,
    )
    minutes: float = option(
        0.0,
        "Train by the clock, on one device: pictures and degradations live there, the rate falls "
        "to zero as the time runs out, and `steps` counts for nothing. 0: by steps.",
        min=0.0,
    )
    held_out: str = option(
        "", "By the clock: folder of pictures to validate on; empty takes those of training."
    )


def made(options: PredictorOptions, prior: Prior) -> Any:
    """The predictor to train. Raises `ValueError` for one of another kind of prior, and for crops
    that do not fit it."""
    widths = tuple(int(part) for part in options.widths.split(","))
    if options.like:
        predictor = load_noise_predictor(options.like)
        if isinstance(predictor, PixelPredictor) and options.blocks:
            network = grown(predictor.network, widths, options.blocks)  # type: ignore[arg-type]
            predictor = of_network(network, predictor.trained_sigmas)
        predictor.network.requires_grad_(True)
    else:
        predictor = of_network(PixelPredictorNetwork(widths, options.blocks or BLOCKS))
    unit = predictor.scale * predictor.multiple_of
    if predictor.factor != prior.codec.factor:
        raise ValueError(
            f"{predictor.name} predicts noise for states {predictor.factor} times smaller than the "
            f"picture, those of {prior.spec.name} are {prior.codec.factor} times smaller; name a "
            "predictor of its kind with like."
        )
    if options.side % unit:
        raise ValueError(f"The crops have a side of {options.side} pixels; {predictor.name} needs "
                         f"a multiple of {unit}.")
    return predictor


def of_network(
    network: PixelPredictorNetwork, sigmas: tuple[float, ...] = START_SIGMAS
) -> PixelPredictor:
    """The predictor of a network."""
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return PixelPredictor(network, trained_sigmas=sigmas)


def write_predictor(
    predictor: Any, options: PredictorOptions, scores: dict[str, float], steps: int = 0
) -> None:
    """`<out>/predictor.safetensors`; one of the published kind in float32 and its own names.

    steps: how many there were, where not as many as the options ask for.
    """
    file = Path(options.out) / "predictor.safetensors"
    said = history(predictor, options, scores, steps or options.steps)
    if predictor.factor == 1:
        write_weights(predictor.network, file, said)
    else:
        own = torch.nn.ModuleDict({"encoder": predictor.network})
        write_weights(own, file, said, torch.float32)


def history(
    predictor: Any, options: PredictorOptions, scores: dict[str, float], steps: int
) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "start noise, 4 times enlargement",
        "sigmas": ", ".join(f"{sigma:.4g}" for sigma in predictor.trained_sigmas),
        "prior": Path(options.prior or BUILT_IN).name,
        "command": command_line("noise_predictor", options),
        "seed": str(options.seed),
        "data": described(options),
        "degradation": ", ".join(STRENGTHS if not options.minutes else MIXTURE)
        + " of Real-World Degradation",
        "steps": str(steps),
        "samples": samples_seen(steps, options.batch),
        "held_out_scores": scores,
    }
