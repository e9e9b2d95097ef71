"""Region-adaptive sampling with this pack's own priors."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.codec import Codec, LatentCodec, preview
from ...models.prior import Prior
from ...models.registry import innermost, networks_of
from ...pipelines.adadiffsr.base_grid import BaseGrid, half_sigma
from ...pipelines.adadiffsr.call_cost import cost_of
from ...pipelines.adadiffsr.injection import FeatureInjection, Injection
from ...pipelines.adadiffsr.regions import RegionOptions, Task
from ...pipelines.adadiffsr.report import report, work_map
from ...pipelines.adadiffsr.sampler import RegionRun
from ...pipelines.adadiffsr.step_policy import StepPolicy
from ...pipelines.adadiffsr.trained_gain import GainMaps, information
from ...pipelines.noise import per_sample_noise
from ...pipelines.tiling import TileGrid
from ..comfyui import host
from ..comfyui.model_patches import refuse_bound_prior
from ..comfyui.recorded import played
from ..images import to_latent, to_mask, to_preview
from ..latents import read_latent
from ..tiles import PictureTiles
from ..watched import WatchedPrior
from ..widgets import SEED, expect, socket, widgets_of
from .policy import CATEGORY

TILES_PER_CALL = (
    "INT",
    {
        "default": 8,
        "min": 0,
        "max": 256,
        "tooltip": "Most tiles in one network call. 0 is automatic: on a GPU as many as fit in its "
        "free memory and make a call cheaper, on the CPU 8. The picture does not depend on it.",
    },
)


class RegionAdaptiveSampler:
    """DIFFUSION_PRIOR, LATENT tiles, TILE_GRID -> LATENT tiles, work MASK, STRING report."""

    DESCRIPTION = (
        "Restores a picture tile by tile and gives each region only the steps it needs: flat ones "
        "skip, detailed ones do not (AdaDiffSR). The degradation need not be known; for any prior."
    )
    SEARCH_ALIASES = (
        "AdaDiffSR",
        "real-world super-resolution",
        "upscale",
        "tiled sampler",
        "adaptive steps",
    )
    CATEGORY = CATEGORY
    FUNCTION = "sample"
    RETURN_TYPES = ("LATENT", "MASK", "STRING")
    RETURN_NAMES = ("tiles", "work", "report")
    OUTPUT_TOOLTIPS = (
        "The restored tiles, for Tile Stitcher.",
        "The share of the base grid's steps that each place got, at the size of the picture.",
        "Evaluations per tile, network calls and how full they were, classes over time, exits.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "What pictures look like."),
                "tiles": socket("LATENT", "Tile Splitter's tiles of the enlarged picture."),
                "grid": socket("TILE_GRID", "Tile Splitter's grid."),
                "seed": SEED,
                **widgets_of(BaseGrid),
                **widgets_of(RegionOptions),
                "tiles_per_call": TILES_PER_CALL,
            },
            "optional": {
                "policy": socket("STEP_POLICY", "Without it: Step Policy's defaults."),
                "injection": socket(
                    "FEATURE_INJECTION", "Without it predictions are not held to the picture."
                ),
                "regressor": socket(
                    "REGION_REGRESSOR",
                    "Without it gains are read off the predictions, with no trained weights.",
                ),
            },
        }

    def sample(
        self,
        prior: Prior,
        tiles: dict[str, Any],
        grid: PictureTiles,
        seed: int,
        tiles_per_call: int,
        policy: StepPolicy | None = None,
        injection: Injection | None = None,
        regressor: GainMaps | None = None,
        **options: Any,
    ) -> tuple[dict[str, Any], Tensor, str]:
        """Run the sampler with progress, previews and interruption."""
        check_sockets(prior, policy, injection, regressor)
        samples = tiles_of(prior, tiles, grid)
        solver = RegionOptions(**{k: options.pop(k) for k in widgets_of(RegionOptions)})
        sigmas = BaseGrid(**options).sigmas(prior.spec)
        chosen, codec = policy or StepPolicy(), prior.codec
        if regressor is not None:
            regressor.check(prior)
        gain, spans = information(regressor, chosen.spans, sigmas, prior.codec.factor)
        with ExitStack() as block:
            device = block.enter_context(host.running(prior))
            if network := getattr(regressor, "network", None):
                host.place([*networks_of(prior), network], device)
            quick, _ = block.enter_context(played(prior, device))
            task = task_of(prior, samples, grid.grid, seed, sigmas, device)
            progress = host.Progress(len(samples), "Region-Adaptive Sampler", host.STITCHED_EVERY)
            watched = WatchedPrior(quick, progress)
            run = RegionRun(
                lambda x, sigma, _: watched.denoise(x, sigma),
                task,
                chosen,
                gain,
                spans,
                solver,
                injection,
                tiles_per_call,
                cost_of(network_of(prior), (samples.shape[1:], str(device))),
            )
            progress.total = run.remaining
            watch(run, progress, codec)
            z = run.predictions()
            z = codec.process_latent_out(z) if isinstance(codec, LatentCodec) else z
        mask = F.interpolate(work_map(run), scale_factor=codec.factor)
        if grid.picture:
            mask = mask[..., : grid.picture.height, : grid.picture.width]
        return to_latent(z), to_mask(mask), report(run)


def network_of(prior: Prior) -> object:
    """What is asked in every call; None for a prior without a network."""
    return getattr(innermost(prior), "network", None)


def check_sockets(prior: Any, policy: Any, injection: Any, regressor: Any = None) -> None:
    """Raise `TypeError` for what is no prior, policy, injection or regressor."""
    expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
    refuse_bound_prior(prior, "tiles of it")
    expect(policy or StepPolicy(), StepPolicy, "policy", "Step Policy or Calibrate Regions")
    if injection is not None and not callable(injection):
        expect(injection, FeatureInjection, "injection", "Feature Injection")
    if regressor is not None:
        expect(regressor, GainMaps, "regressor", "Load Region Entropy Regressor")


def tiles_of(prior: Prior, tiles: Any, grid: Any) -> Tensor:
    """The samples of the tiles, checked against the grid and the prior."""
    expect(grid, PictureTiles, "grid", "Tile Splitter's grid")
    samples = read_latent(tiles, prior, "tiles")
    side, count = grid.grid.tile, grid.grid.count * grid.batch
    if samples.shape[-2:] != (side, side) or len(samples) != count:
        raise ValueError(
            f"tiles holds {len(samples)} of {samples.shape[-1]}x{samples.shape[-2]} and the grid "
            f"is for {count} of {side}x{side}; connect both outputs of one Tile Splitter."
        )
    if side % prior.spec.multiple_of:
        raise ValueError(
            f"The tiles are {side}x{side} and the prior {prior.spec.name} needs multiples of "
            f"{prior.spec.multiple_of}; connect the same prior to Tile Splitter."
        )
    return samples


def task_of(
    prior: Prior, tiles: Tensor, grid: TileGrid, seed: int, sigmas: Tensor, device: torch.device
) -> Task:
    """The tiles in the prior's own units, and noise from one map per picture, on the device. The
    grid is the run's own, and what is kept with it goes with the run."""
    codec, z_lr = prior.codec, tiles.to(device)
    z_lr = codec.process_latent_in(z_lr) if isinstance(codec, LatentCodec) else z_lr
    pictures = len(tiles) // grid.count
    canvas = torch.zeros(pictures, tiles.shape[1], grid.height, grid.width)
    noise = grid.cut(per_sample_noise([seed + b for b in range(pictures)])(canvas))
    return Task(replace(grid), z_lr, noise.to(device), sigmas, half_sigma(prior.spec))


def watch(run: RegionRun, progress: host.Progress, codec: Codec) -> None:
    """Take a run to its end, with previews of the first picture."""

    def picture() -> Any:
        return to_preview(preview(codec, run.task.grid.stitch(run.predictions(1))))

    for call in run:
        progress.total = call.index + 1 + run.remaining
        progress.show(picture)
