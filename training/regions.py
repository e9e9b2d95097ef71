"""Trains the region entropy regressor of AdaDiffSR for a prior.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752). A prior samples tiles of degraded pictures at
every node of a base grid (`records`); the regressor learns what the quality of every block rises by
next, per unit of log noise level:

    loss = |y - t|^2,   t = sign(g) log(1 + |g| / scale),   scale = 0.4 S / ln(sigma_0 / sigma_last)

with S what a hard region rises by on the whole way: gains span orders of magnitude. The gain
without a reference counts in the second half of the timesteps only.

Where we depart: the reference of the metrics is the tile's own final prediction, not the true
picture, from which nearly every step moves away (perception against distortion); a map of blocks
is learnt, not one number; SSIM and GMSD stand for LPIPS and AHIQ, and what detail a block shows for
MUSIQ and BRISQUE, unless the user has them (`no_reference`); the change since the last evaluation
is shown too.

The prior is a pixel prior or a latent one in a diffusers folder. A regressor of the latter serves
the same model inside ComfyUI.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..models.prior import Prior
from ..models.region_regressor import (
    RegionRegressor,
    Trained,
    empty,
    fingerprints,
    load_region_regressor,
)
from ..models.registry import networks_of
from ..pipelines.adadiffsr.base_grid import BaseGrid, half_sigma
from ..pipelines.adadiffsr.information_gain import Spans, WeightFree
from ..pipelines.adadiffsr.injection import FeatureInjection
from ..pipelines.adadiffsr.regions import RegionOptions
from ..pipelines.adadiffsr.trained_gain import TrainedGain
from ..pipelines.options import option
from .command import command_line, read_options, read_prior, samples_seen, write_weights
from .data import SourceOptions, described, source
from .loop import Task, start, train
from .no_reference import KINDS, NON_COMMERCIAL, named, quality_of
from .records import Records, Samples, hard, rank_correlation, record, true_gains

SMALL = 0.4  # gains below this part of an even rise are told apart linearly
FAINT = 1e-3  # a rise in quality below which nothing is told apart
HELD_OUT = 4  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


@dataclass(frozen=True)
class RegressorOptions(SourceOptions):
    """Options of this script."""

    prior: str = option(
        "",
        "The prior it is for: a pixel prior's weight file, or a diffusers folder, also of a latent "
        "model, which is told no text. Empty is the built-in one.",
    )
    canvases: int = option(300, "How many canvases are drawn, where any are.", min=1)
    crops: int = option(110, "How many crops the prior samples at every node.", min=1)
    side: int = option(192, "Side of the crops in pixels, a multiple of that of the tiles.", min=16)
    tile: int = option(64, "Side of the tiles in pixels, a multiple of 16.", min=16, step=16)
    base_steps: int = option(20, "Steps of the base grid.", min=2, max=1000)
    start_sigma: float = option(
        0.4, "Noise level at which the base grid starts; 0 is the prior's largest.", min=0.0
    )
    noise: float = option(0.8, "As in Region-Adaptive Sampler.", min=0.0, max=1.0)
    injection: float = option(1.0, "Strength of Feature Injection; 0 is none.", min=0.0, max=1.0)
    no_reference: str = option(
        "latent",
        "Quality without a reference: 'latent' is how much detail a block shows; the others are "
        "pyiqa's, of a whole tile, where you have it (PolyForm Noncommercial).",
        choices=KINDS,
    )
    widths: str = option("16,32,64", "Channels of a network made anew.")
    like: str = option("", "Weight file of a regressor to go on from; empty starts afresh.")


class RegressorTask(Task):
    """The regressor's network under the loss above."""

    def __init__(self, network: torch.nn.Module, trained: Trained, held_out: Records) -> None:
        super().__init__()
        self.network, self.held_out = network, held_out
        self.regressor = RegionRegressor(network, trained)

    def forward(
        self, batch: dict[str, Tensor], generator: torch.Generator
    ) -> dict[str, Tensor]:
        """Terms of the loss."""
        seen = {key: batch[key] for key in batch if key not in ("target", "late")}
        scale = batch["target"].new_tensor(self.regressor.trained.scale)[:, None, None]
        target = batch["target"].sign() * (batch["target"].abs() / scale).log1p()
        error = (self.regressor.outputs(**seen) - target).square().mean((2, 3))
        late = batch["late"]
        return {
            "full_reference": error[:, 0].mean(),
            "no_reference": (error[:, 1] * late).sum() / late.sum().clamp(min=1),
        }

    def validate(self) -> tuple[dict[str, float], None]:
        """Rank correlations with the true gains of drawn pictures of another seed."""
        return correlations(self.regressor, self.held_out), None


def predicted(gain: Any, records: Records) -> Tensor:
    """Gains of an `InformationGain` per base step for every tile, (K, N - 1, 2) float64."""
    nodes = range(len(records.sigmas) - 1)
    gains = [gain(records.evaluation(node)) for node in nodes]
    return torch.stack([torch.stack([g.full_reference, g.no_reference], 1) for g in gains], 1)


def correlations(regressor: RegionRegressor, records: Records) -> dict[str, float]:
    """Rank correlation with the true gain over all (tile, node) but the first node, and its mean
    over nodes, which does not see that all tiles gain less at the end; beside the estimator without
    weights."""
    truth = true_gains(records)[:, 1:]
    even = Spans(1.0, 1.0, 1.0, tuple(records.sigmas.tolist()))
    signals = {"": TrainedGain(regressor), "_weight_free": WeightFree(even)}
    scores = {}
    for name, gain in signals.items():
        found = predicted(gain, records)[:, 1:]
        for which, kind in enumerate(("full", "none")):
            a, b = found[..., which], truth[..., which]
            scores[f"rank_{kind}{name}"] = rank_correlation(a.flatten(), b.flatten())
            within = [rank_correlation(a[:, i], b[:, i]) for i in range(a.shape[1])]
            scores[f"rank_{kind}_within_nodes{name}"] = sum(within) / len(within)
    return scores


def measured(regressor: RegionRegressor, records: Records) -> Trained:
    """The spans by the regressor's own predictions, and the loss of its base grid.

    Raises `ValueError` for one that sees no region rise.
    """
    unit = replace(regressor, trained=replace(regressor.trained, spans=(1.0, 1.0)))
    gains = predicted(TrainedGain(unit), records)
    full, none = hard(gains)
    lost = (gains[..., 0] * records.steps / 2).sum(1)
    loss = lost.sort(descending=True).values[: max(1, len(lost) // 4)].median().item()
    if min(full, none, loss) <= 0:
        raise ValueError(
            "The regressor predicts that not even hard regions gain; ask for more steps, the same "
            "command goes on from the checkpoint."
        )
    return replace(regressor.trained, spans=(full, none), loss=loss / full)


def records_of(options: RegressorOptions, prior: Prior, device: torch.device) -> list[Records]:
    """The records to train on, and those of another seed to validate on."""
    runs, found = Path(options.out), []
    sigmas = grid_of(options).sigmas(prior.spec)
    injection = FeatureInjection(options.injection) if options.injection else None
    none = quality_of(options.no_reference, device)
    kind = "" if options.no_reference == "latent" else f"-{options.no_reference}"
    unseen = replace(
        options, pictures="", seed=options.seed + 1, canvases=UNSEEN, crops=HELD_OUT
    )
    for name, own in (("train", options), ("unseen", unseen)):
        pictures = source(own, own.side, own.seed, own.crops)
        file = runs / f"records-{name}-{own.crops}-{own.seed}{kind}.safetensors"
        solver = RegionOptions(noise=own.noise)
        found.append(
            record(
                file, prior, pictures, own.seed, own.tile, sigmas, solver, injection, device, none
            )
        )
    return found


def grid_of(options: RegressorOptions) -> BaseGrid:
    """The base grid."""
    return BaseGrid(steps=options.base_steps, start_sigma=options.start_sigma)


def trained_for(prior: Prior, records: Records, metrics: str) -> Trained:
    """What can be said before the training; spans and loss follow."""
    levels = tuple(records.sigmas.tolist())
    way = math.log(levels[0] / levels[-1])
    spans = hard(true_gains(records))
    full, none = (SMALL * max(span, FAINT) / way for span in spans)
    return Trained(prior.spec.name, fingerprints(prior), levels, (full, none), spans, 1.0, metrics)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/regressor.safetensors`."""
    options = read_options(RegressorOptions, arguments, "Trains a region entropy regressor.")
    accelerator = start(options)
    prior = read_prior(options.prior)
    for network in networks_of(prior):
        torch.nn.Module.to(network, accelerator.device)
    with accelerator.main_process_first():  # the others find the records written
        seen, unseen = records_of(options, prior, accelerator.device)
    trained = trained_for(prior, seen, named(options.no_reference))
    task = RegressorTask(made(options, prior), trained, unseen)
    length = options.steps * options.batch * accelerator.num_processes
    data = Samples(seen, half_sigma(prior.spec), options.seed, length)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            own = measured(task.regressor, unseen)
            scores, _ = task.eval().validate()
        file = Path(options.out) / "regressor.safetensors"
        write_weights(task.network, file, history(options, own, scores), torch.float16)
    return 0


def made(options: RegressorOptions, prior: Prior) -> torch.nn.Module:
    """The network to train."""
    if options.like:
        return load_region_regressor(options.like).network.requires_grad_(True)
    return empty(prior, tuple(int(part) for part in options.widths.split(",")))


def history(
    options: RegressorOptions, trained: Trained, scores: dict[str, float]
) -> dict[str, Any]:
    """What the file says of how it was made, and what `Trained.read` needs."""
    said = {k: v if isinstance(v, str) else json.dumps(v) for k, v in asdict(trained).items()}
    if options.no_reference != "latent":
        said["license"] = NON_COMMERCIAL
    return {
        **said,
        "kind": "region entropy regressor of AdaDiffSR",
        "command": command_line("regions", options),
        "seed": str(options.seed),
        "data": described(options),
        "steps": str(options.steps),
        "samples": samples_seen(options.steps, options.batch),
        "held_out_scores": scores,
    }
