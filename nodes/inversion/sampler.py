"""InvSR on any prior: super-resolution in a few steps from a predicted start."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

from ...models.codec import Codec
from ...models.prior import Prior
from ...pipelines.adadiffsr.base_grid import table_of
from ...pipelines.invsr.sampler import (
    InversionOptions,
    invert,
    predicted,
    schedule_at,
    schedule_from,
    sides,
    tile_by_tile,
)
from ...pipelines.invsr.start_noise import SMALLEST, StartNoise, StartNoiseOptions, calls_of
from ...pipelines.invsr.steps import InversionSteps
from ...pipelines.large_states import in_tiles
from ...pipelines.level import picture
from ...pipelines.noise import Noise, per_sample_noise
from ...pipelines.resizing import resized
from ...pipelines.schedule import Schedule
from ...pipelines.step import Step
from ...pipelines.tiling import TileGrid
from ..comfyui import host
from ..images import to_image, to_pixels, to_preview, visible
from ..latents import glimpse
from ..memory import check_room
from ..watched import InterruptiblePrior, WatchedPredictor, WatchedPrior
from ..widgets import SEED, expect, socket, widgets_of
from .predictor import CATEGORY

T = TypeVar("T")
PREVIEW_SIDE = 256  # pixels, about
NEAR = 0.02  # relative distance to a noise level that counts as that level


class InversionSampler:
    """DIFFUSION_PRIOR, NOISE_PREDICTOR, IMAGE -> larger IMAGE."""

    DESCRIPTION = (
        "Enlarges a picture of unknown degradation 4 times in 1 to 5 steps (InvSR): a small "
        "network predicts the noise from which the prior arrives at the sharp picture. Other "
        "scales are made up by resizing."
    )
    SEARCH_ALIASES = (
        "InvSR", "super-resolution", "upscale", "enlarge", "enhance", "diffusion inversion",
        "放大", "增强", "超分辨率",
    )  # fmt: skip
    CATEGORY = CATEGORY
    FUNCTION = "sample"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "STRING")
    RETURN_NAMES = ("image", "report")
    OUTPUT_TOOLTIPS = (
        "The enlarged pictures: scale times height and width, rounded to whole pixels.",
        "Sizes, resizing, timesteps and network calls, and a warning where the start is not one "
        "that the predictor was trained for.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "What pictures look like."),
                "predictor": socket(
                    "NOISE_PREDICTOR", "Load Noise Predictor's, made for this prior."
                ),
                "image": socket("IMAGE", "The small pictures, 8x8 pixels or more."),
                "seed": SEED,
                **widgets_of(InversionSteps),
                **widgets_of(InversionOptions),
                **widgets_of(StartNoiseOptions),
            },
            "optional": {
                "sigmas": socket(
                    "SIGMAS",
                    "Noise levels, falling and ending in 0, such as Inversion Sigmas gives; "
                    "instead of steps, start_timestep and timesteps.",
                )
            },
        }

    def sample(
        self,
        prior: Prior,
        predictor: StartNoise,
        image: Tensor,
        seed: int,
        sigmas: Tensor | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Resize, predict, sample, decode and resize, with progress, previews and interruption."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        expect(predictor, StartNoise, "predictor", "Load Noise Predictor")
        chosen, start = own(InversionOptions, options), own(StartNoiseOptions, options)
        schedule, times = levels(prior, own(InversionSteps, options), sigmas)
        pixels, layout = to_pixels(image)
        (seen_height, height), (seen_width, width) = (
            sides(side, chosen.scale, predictor.scale, chosen.resize == "before")
            for side in pixels.shape[-2:]
        )
        lr = resized(visible(pixels, layout), (seen_height, seen_width))
        check_large_enough(pixels, lr)
        run = Run(prior, predictor, schedule, chosen, start)
        restored = run(lr, per_sample_noise([seed + b for b in range(len(lr))]))
        result = resized(restored, (height, width))
        text = "\n".join(
            [
                said_of_sizes(pixels, lr, restored, result),
                said_of_levels(schedule, times),
                *warnings(prior, predictor, schedule),
            ]
        )
        return {"ui": {"text": [text]}, "result": (to_image(result, layout), text)}


@dataclass(frozen=True, eq=False)
class Run:
    """A run of the sampler with its progress, on pictures of the size that the network sees."""

    prior: Prior
    predictor: StartNoise
    schedule: Schedule
    chosen: InversionOptions
    start: StartNoiseOptions

    def __call__(self, lr: Tensor, noise: Noise) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale h, scale w) on the CPU, both in [-1, 1]."""
        tile, overlap = self.start.tile, self.start.overlap
        steps, scale = self.schedule.steps, self.predictor.scale
        if self.chosen.tiling == "noise" or not tile:
            calls = calls_of(self.predictor, lr, tile, overlap)
            progress = host.Progress(calls + steps, "Inversion Sampler")
            return self.enlarge(lr, noise, progress, tile, overlap)
        tiles = TileGrid(lr.shape[-2], lr.shape[-1], tile, overlap).count
        progress = host.Progress(tiles * (len(lr) + steps), "Inversion Sampler")
        return tile_by_tile(
            lr, scale, tile, overlap, lambda part: self.enlarge(part, noise, progress, 0, 0)
        )

    def enlarge(
        self, lr: Tensor, noise: Noise, progress: host.Progress, tile: int, overlap: int
    ) -> Tensor:
        """The pipeline once. The predictor has done its work before the prior is made ready, so
        that they need not share the memory."""
        sigma = self.schedule.sigmas[0].item()
        if network := getattr(self.predictor, "network", None):
            host.place([network], host.device())
        watched = WatchedPredictor(self.predictor, progress)
        size = tuple(side * self.predictor.scale for side in lr.shape[-2:])
        prior = in_tiles(InterruptiblePrior(self.prior), *size)
        check_room(prior, len(lr), *size)
        codec, step = prior.codec, None
        start = predicted(self.prior, watched, lr.to(host.device()), sigma, tile, overlap)
        with host.running(prior) as device:
            steps = invert(WatchedPrior(prior, progress), start.to(device), self.schedule, noise,
                           strength=self.start.strength, deterministic=self.chosen.deterministic)
            del start
            for step in steps:
                if step.index + 1 < step.total:  # the last one is the result
                    progress.show(partial(small, step, codec))
            assert step is not None
            return picture(step.x0_hat, step.size, codec).cpu()


def small(step: Step, codec: Codec) -> Any:
    """The first picture of a step, thinned out: a larger one costs more than the sampler."""
    return to_preview(glimpse(step, codec, PREVIEW_SIDE))


def own(cls: type[T], options: dict[str, Any]) -> T:
    """The `cls` of those widgets that are its own."""
    return cls(**{name: options[name] for name in widgets_of(cls)})


def levels(
    prior: Prior, steps: InversionSteps, sigmas: Tensor | None
) -> tuple[Schedule, tuple[int, ...]]:
    """The run's noise levels, and its timesteps, () where the levels were given.

    Timesteps are those of the prior's own table, of Stable Diffusion's for a continuous prior.
    """
    if sigmas is not None:
        expect(sigmas, Tensor, "sigmas", "SIGMAS such as Inversion Sigmas gives")
        return schedule_from(sigmas), ()
    times = steps.times()
    return schedule_at(times, table_of(prior.spec)), times


def check_large_enough(pixels: Tensor, lr: Tensor) -> None:
    """Raise `ValueError` for sides under 8 pixels, as they came or as the network would see
    them."""
    if min(pixels.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"image has {size_of(pixels)} pixels; give one with sides of at least {SMALLEST} "
            "pixels."
        )
    if min(lr.shape[-2:]) < SMALLEST:
        raise ValueError(
            f"image has {size_of(pixels)} pixels, and the network would see {size_of(lr)} of them; "
            f"set resize to 'after', or give sides of at least {SMALLEST} pixels."
        )


def size_of(pixels: Tensor) -> str:
    """ "width x height" for messages."""
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"


def said_of_sizes(came: Tensor, seen: Tensor, made: Tensor, result: Tensor) -> str:
    """What happened to the sizes, in one line."""
    before = f"resized to {size_of(seen)}, " if seen.shape != came.shape else ""
    after = f", resized to {size_of(result)}" if result.shape != made.shape else ""
    times = f"{made.shape[-1] // seen.shape[-1]} times by the network"
    return f"{size_of(came)}: {before}enlarged {times} to {size_of(made)}{after}"


def said_of_levels(schedule: Schedule, times: tuple[int, ...]) -> str:
    """The noise levels, with their timesteps where they have any."""
    sigmas = [f"{sigma:.4g}" for sigma in schedule.sigmas[:-1].tolist()]
    if not times:
        return f"noise levels: {', '.join(sigmas)}"
    pairs = (f"{t} ({sigma})" for t, sigma in zip(times, sigmas, strict=True))
    return f"timesteps (noise levels): {', '.join(pairs)}"


def warnings(prior: Prior, predictor: StartNoise, schedule: Schedule) -> list[str]:
    """A sentence where the run starts at a level the predictor was not trained for.

    For a prior of discrete levels it learnt those it names, for a continuous one all between them.
    """
    start, trained = schedule.sigmas[0].item(), sorted(predictor.trained_sigmas)
    near = any(abs(start / sigma - 1) < NEAR for sigma in trained)
    if near or (prior.spec.sigmas is None and trained[0] < start < trained[-1]):
        return []
    known = ", ".join(f"{sigma:.3g}" for sigma in trained)
    return [
        f"{predictor.name} was not trained to start at noise level {start:.3g}; {known} are safe."
    ]
