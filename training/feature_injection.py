"""Trains feature injection at the structure maps of StableSR: see `injection_loss`.

    python training feature_injection --prior sd21 --module webui_768v_139.ckpt

Put what it writes into ComfyUI's `models/feature_injections`, for Load Feature Injection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.discrete import DiscretePrior
from ..models.feature_injection import StructInjection, fingerprints, read_injection
from ..models.latent import PromptedNetwork, load_diffusers_prior
from ..models.stablesr import StableSRNetwork, read_module
from ..pipelines.options import option
from .command import command_line, read_options, samples_seen, write_weights
from .data import DegradedPairs, SourceOptions, described, source
from .injection_loss import InjectionTask
from .loop import start, train

STRENGTHS = ("mild", "StableSR")
HELD_OUT = 8  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


@dataclass(frozen=True)
class InjectionOptions(SourceOptions):
    """Options of this script."""

    prior: str = option("", "Diffusers folder of Stable Diffusion 2.1 or SD-Turbo. Needed.")
    module: str = option("", "StableSR module's file, for that model. Needed.")
    prompt: str = option("", "Text that the model is told.")
    canvases: int = option(600, "How many canvases are drawn, where any are.", min=1)
    side: int = option(512, "Side of the high-resolution crops in pixels.", min=64, step=64)
    batch: int = option(4, "Samples per step and process.", min=1)
    rate: float = option(5e-5, "Learning rate after warming up; the paper's.", min=0.0, max=1.0)
    base_steps: int = option(50, "Steps N of the base grid of a run.", min=10, max=1000)
    unknown: float = option(0.1, "Share of samples that know no gains.", min=0.0, max=1.0)
    like: str = option("", "Weight file of an injection to go on from; empty starts afresh.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.prior and self.module):
            raise ValueError(
                "Name a diffusers folder by --prior and a StableSR module by --module; injection "
                "is trained for both."
            )


def pairs(options: InjectionOptions, seed: int, length: int) -> DegradedPairs:
    """Degraded pairs of the chosen pictures."""
    return DegradedPairs(source(options, options.side, seed, length), seed, STRENGTHS)


def held_out(options: InjectionOptions) -> tuple[Tensor, Tensor]:
    """Pairs of another seed; canvases that the training does not see."""
    other = replace(options, pictures="", canvases=UNSEEN)
    drawn = [pairs(other, options.seed + 1, HELD_OUT)[i] for i in range(HELD_OUT)]
    low, high = zip(*drawn, strict=True)
    return torch.stack(low), torch.stack(high)


def prior_of(options: InjectionOptions) -> DiscretePrior:
    """Stable Diffusion. Raises `ValueError` for a folder of another kind."""
    prior = load_diffusers_prior(options.prior, options.prompt)
    if not isinstance(prior.network, PromptedNetwork):
        raise ValueError(
            f"{prior.spec.name} is a pixel prior; give Stable Diffusion 2.1 or SD-Turbo."
        )
    return prior


def made(options: InjectionOptions, module: StableSRNetwork) -> StructInjection:
    """The network to train."""
    if not options.like:
        maps = module.encoder.maps
        return StructInjection(maps[0].out_channels, len(maps))  # type: ignore[arg-type]
    loaded = read_injection(options.like)
    loaded.check(module)
    return loaded.network.requires_grad_(True)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/injection.safetensors`."""
    options = read_options(InjectionOptions, arguments, "Trains feature injection for StableSR.")
    accelerator = start(options)
    prior, module = prior_of(options), read_module(options.module)
    with accelerator.main_process_first():  # the others find the canvases drawn
        length = options.steps * options.batch * accelerator.num_processes
        data, unseen = pairs(options, options.seed, length), held_out(options)
    network = made(options, module)
    task = InjectionTask(network, prior, module, options.base_steps, options.unknown, unseen)
    prints = fingerprints(module)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
        file = Path(options.out) / "injection.safetensors"
        write_weights(task.network, file, history(options, prints, scores), torch.float32)
    return 0


def history(
    options: InjectionOptions, prints: tuple[str, ...], scores: dict[str, float]
) -> dict[str, Any]:
    """What the file says of how it was made, and what `read_injection` needs."""
    return {
        "kind": "feature injection of AdaDiffSR at the structure maps of StableSR",
        "license": "that of the StableSR module it was trained on: NTU S-Lab License 1.0, "
        "non-commercial, for the published ones",
        "prior": Path(options.prior).name,
        "module": Path(options.module).name,
        "prints": list(prints),
        "command": command_line("feature_injection", options),
        "seed": str(options.seed),
        "data": described(options),
        "degradation": ", ".join(STRENGTHS) + " of Real-World Degradation",
        "steps": str(options.steps),
        "samples": samples_seen(options.steps, options.batch),
        "held_out_scores": scores,
    }
