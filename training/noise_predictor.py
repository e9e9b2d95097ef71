"""Trains the starting noise of InvSR, for a pixel prior or a latent one.

The loss is told in `inversion_loss.py`. Without `like` a small network for a pixel prior is trained
from nothing; with it a predictor goes on from where it was, a published one beside its Stable
Diffusion folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.pixel_predictor import PixelPredictor, PixelPredictorNetwork
from ..models.predictors import load_noise_predictor
from ..models.prior import Prior
from ..models.registry import BUILT_IN
from ..pipelines.options import option
from .command import command_line, read_options, read_prior, samples_seen, write_weights
from .data import DegradedPairs, SourceOptions, described, source
from .inversion_loss import LossOptions, PredictorTask
from .loop import start, train

STRENGTHS = ("mild", "StableSR")
HELD_OUT = 16  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


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
    widths: str = option("48,80,112", "Channels per resolution of a network made anew.")
    like: str = option(
        "",
        "Weight file of a predictor to go on from, a published one for a latent prior; empty makes "
        "a small one for a pixel prior.",
    )


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
    prior = read_prior(options.prior, options.prompt)
    predictor = made(options, prior)
    task = PredictorTask(predictor, prior, options, seen)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
        write_predictor(predictor, options, scores)
    return 0


def made(options: PredictorOptions, prior: Prior) -> Any:
    """The predictor to train. Raises `ValueError` for one of another kind of prior, and for crops
    that do not fit it."""
    if options.like:
        predictor = load_noise_predictor(options.like)
        predictor.network.requires_grad_(True)
    else:
        network = PixelPredictorNetwork(tuple(int(part) for part in options.widths.split(",")))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        predictor = PixelPredictor(network)
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


def write_predictor(predictor: Any, options: PredictorOptions, scores: dict[str, float]) -> None:
    """`<out>/predictor.safetensors`; one of the published kind in float32 and its own names."""
    file, said = Path(options.out) / "predictor.safetensors", history(predictor, options, scores)
    if predictor.factor == 1:
        write_weights(predictor.network, file, said)
    else:
        own = torch.nn.ModuleDict({"encoder": predictor.network})
        write_weights(own, file, said, torch.float32)


def history(
    predictor: Any, options: PredictorOptions, scores: dict[str, float]
) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "start noise, 4 times enlargement",
        "sigmas": ", ".join(f"{sigma:.4g}" for sigma in predictor.trained_sigmas),
        "prior": Path(options.prior or BUILT_IN).name,
        "command": command_line("noise_predictor", options),
        "seed": str(options.seed),
        "data": described(options),
        "degradation": ", ".join(STRENGTHS) + " of Real-World Degradation",
        "steps": str(options.steps),
        "samples": samples_seen(options.steps, options.batch),
        "held_out_scores": scores,
    }
