"""AdaDiffSR as a SAMPLER of ComfyUI, for any MODEL: see `pipelines.adadiffsr.sampler`.

ComfyUI calls `sample` with a guider whose model is loaded and whose conditioning is prepared. The
run asks a copy of that guider, so that LoRAs, ControlNets, guiders and patches of other nodes work;
the copy's conditioning is that of the tiles of each call (`tiled_conditioning`).

ComfyUI takes a noise level for every sample, but much around the network looks at the first one
only. Batches therefore never straddle a level at which conditioning begins or ends, and a model
with functions of other nodes on it is asked at one level per call.

Flow models mix x = (1 - s) z + s n; the step x <- x0_hat + (s' / s) (x - x0_hat) is theirs too, and
only the start differs, which ComfyUI's own `noise_scaling` makes.
"""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...pipelines.adadiffsr.call_cost import cost_of
from ...pipelines.adadiffsr.injection import Injection
from ...pipelines.adadiffsr.regions import RegionOptions, Task
from ...pipelines.adadiffsr.report import report
from ...pipelines.adadiffsr.sampler import RegionRun
from ...pipelines.adadiffsr.step_policy import THRESHOLD, StepPolicy
from ...pipelines.adadiffsr.trained_gain import GainMaps, information
from ...pipelines.out_of_memory import out_of_memory
from ...pipelines.tiling import TileGrid, check_tile
from . import host
from .guider_prior import load_network
from .model_patches import GAINS, TILES, one_level, refuse_caches, refuse_canvas_bound
from .model_weights import outside_derivatives
from .prior_from_guider import levels_of, native_size
from .region_levels import PIXELS, check_regressor, checked, half_of, on_grid
from .tiled_conditioning import Cutter, TiledConditioning, boundaries, has_hooks
from .wall import freed, outside

Callback = Callable[[int, Tensor, Tensor, int], Any]


@dataclass(frozen=True, eq=False)
class RegionSampler:
    """What a SAMPLER socket carries.

    tile, overlap: pixels of the picture, 8 to a latent's; tile 0 is what the model was trained on.
    tiles_per_call: the most tiles in one network call, halved when the GPU runs out of memory; 0 is
    automatic, see `RegionRun`.
    regressor: tells what regions gain; None reads it off the predictions.
    """

    policy: StepPolicy
    options: RegionOptions
    tile: int
    overlap: int
    tiles_per_call: int
    injection: Injection | None = None
    regressor: GainMaps | None = None

    @outside
    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """The restored latents, (B, C, h, w), as ComfyUI's own samplers give them.

        sigmas: (N + 1,) falling, the last 0. noise: (B, C, h, w) standard normal. latent_image: the
        degraded picture. denoise_mask: (B, C, h, w), 1 where the picture may change.
        Raises `ValueError` for what tiles or regions cannot do, one sentence each.
        """
        z_lr = torch.zeros_like(noise) if latent_image is None else latent_image
        levels = checked(sigmas, noise)
        refuse_caches(extra_args["model_options"])
        refuse_canvas_bound(extra_args["model_options"], noise.shape[1], "tiles of it")
        sampling = model_wrap.inner_model.model_sampling
        name = type(model_wrap.inner_model).__name__
        flow = levels_of(name, sampling)[3]
        if flow and self.options.meetings:
            raise ValueError(
                f"meetings is {self.options.meetings}; {name} is a flow model: give 0."
            )
        if self.regressor is not None:
            check_regressor(self.regressor, name, noise.shape[1], flow)
            if network := getattr(self.regressor, "network", None):
                torch.nn.Module.to(network, noise.device)
        grid = self.grid_for(model_wrap.inner_model, noise.shape)
        asked = Asked(model_wrap, extra_args, grid, sigmas, denoise_mask, z_lr, noise)
        single = one_level(extra_args["model_options"]) or has_hooks(model_wrap.conds)
        bounds = (*boundaries(model_wrap.conds), *(levels if single else ()))
        base, half = torch.tensor(levels, dtype=torch.float64), half_of(sampling, flow)
        task = Task(grid, grid.cut(z_lr), grid.cut(noise), base, half, bounds)
        run = self.run_of(task, asked)
        place_starts(run, sampling)
        if getattr(model_wrap.inner_model, "model_lowvram", False):  # estimated for the canvas
            tiles = torch.Size((max(run.batch, 1), noise.shape[1], grid.tile, grid.tile))
            outside_derivatives(lambda: load_network(model_wrap, tiles))
        show(run, callback)
        logging.getLogger(__name__).info("Region-Adaptive Sampler: %s", report(run))
        return grid.stitch(run.predictions()).to(noise)

    def grid_for(self, model: Any, shape: torch.Size) -> TileGrid:
        """The tiles of a latent of this shape."""
        tile = self.tile or native_size(model.model_config.unet_config)
        check_tile(tile, self.overlap)
        return TileGrid(shape[-2], shape[-1], tile // PIXELS, self.overlap // PIXELS)

    def run_of(self, task: Task, asked: Asked) -> RegionRun:
        """The run."""
        policy = on_grid(self.policy, task.sigmas)
        gain, spans = information(self.regressor, policy.spans, task.sigmas, PIXELS)
        run = RegionRun(
            asked, task, policy, gain, spans, self.options, self.injection, self.tiles_per_call,
            cost_of(asked.guider.inner_model, (task.z_lr.shape[1:], str(task.z_lr.device))),
        )  # fmt: skip
        asked.run = run
        return run


@dataclass(eq=False)
class Asked:
    """A guider as the run asks it: (x, sigma, tiles) -> x0_hat."""

    guider: Any
    extra_args: dict[str, Any]
    grid: TileGrid
    sigmas: Tensor
    mask: Tensor | None
    z_lr: Tensor
    noise: Tensor
    run: RegionRun | None = None

    def __post_init__(self) -> None:
        self.cut = Cutter(self.grid)
        self.conditioning = TiledConditioning(self.guider.conds, self.cut)
        self.guider = copy.copy(self.guider)  # conds are set anew for every call

    def __call__(self, x: Tensor, sigma: Tensor, tiles: Sequence[int]) -> Tensor:
        """x0_hat of these tiles; where the GPU has no memory for all, the run asks for half."""
        host.check_interrupted()
        try:
            return self.ask(x, sigma, tiles)
        except RuntimeError as error:
            if out_of_memory(error):
                host.comfy("comfy.model_management").soft_empty_cache()
            raise

    def ask(self, x: Tensor, sigma: Tensor, tiles: Sequence[int]) -> Tensor:
        """One network call, with inpainting's mixture before and after it as in ComfyUI."""
        options = self.extra_args["model_options"]
        given = dict(options.get("transformer_options", {}))
        given |= {TILES: (self.grid, tuple(tiles)), GAINS: self.gains(tiles)}
        self.guider.conds = self.conditioning.of(tiles)
        free = None if self.mask is None else self.free(self.mask, sigma, tiles)
        if free is not None:
            kept = {
                "noise": self.cut(self.noise, tiles),
                "latent_image": self.cut(self.z_lr, tiles),
            }
            noisy = self.guider.inner_model.scale_latent_inpaint(x=x, sigma=sigma, **kept)
            x = x * free + noisy * (1 - free)
        seed = self.extra_args.get("seed")
        own = {**options, "transformer_options": given}
        with torch.inference_mode():  # as ComfyUI's own samplers ask it; nothing is derived here
            x0_hat = self.guider(x, sigma, model_options=own, seed=seed)
            self.conditioning.keep_encoded(tiles)
        x0_hat = freed(x0_hat)
        return x0_hat if free is None else x0_hat * free + self.cut(self.z_lr, tiles) * (1 - free)

    def gains(self, tiles: Sequence[int]) -> Tensor:
        """What these tiles gained at their last evaluation, in units of the policy's threshold."""
        assert self.run is not None
        regions, policy = self.run.regions, self.run.policy
        tau = policy.threshold / THRESHOLD / len(self.run.levels)
        return torch.tensor([[regions[k].rise / tau, regions[k].sharper / tau] for k in tiles])

    def free(self, canvas: Tensor, sigma: Tensor, tiles: Sequence[int]) -> Tensor:
        """1 where these tiles may change. canvas: the mask of the whole canvas."""
        mask = self.cut(canvas, tiles)
        if function := self.extra_args["model_options"].get("denoise_mask_function"):
            extra = {"model": self.guider, "sigmas": self.sigmas}
            mask = function(sigma, mask, extra_options=extra)
        return mask


def place_starts(run: RegionRun, sampling: Any) -> None:
    """The regions' first states by the model's own mixture of picture and noise."""
    top = float(sampling.sigma_max)
    for region, noise in zip(run.regions, run.task.noise, strict=True):
        level = run.levels[region.node]
        most = math.isclose(level, top, rel_tol=1e-5) or level > top
        sigma = torch.tensor(level, dtype=noise.dtype, device=noise.device)
        scaled = run.options.noise * noise
        region.x = sampling.noise_scaling(sigma, scaled, region.x0_hat, most)


def show(run: RegionRun, callback: Callback | None) -> None:
    """Take a run to its end; progress counts network calls, the picture is the stitched x0_hat."""
    shown = float("-inf")
    for call in run:
        ahead = run.remaining
        if callback and (not ahead or time.monotonic() - shown >= host.STITCHED_EVERY):
            x = torch.stack([region.x for region in run.regions])
            stitch = run.task.grid.stitch
            callback(call.index, stitch(run.predictions()), stitch(x), call.index + 1 + ahead)
            shown = time.monotonic()
