"""The posterior sampler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ...models.prior import Prior
from ...pipelines.level import picture
from ...pipelines.measurement import Measurement
from ...pipelines.noise import Noise, noise_of_device, per_sample_noise
from ...pipelines.replay import Replay
from ...pipelines.schedule import Schedule
from ...pipelines.step import Step
from ...pipelines.subdaps.apart import restore_apart
from ...pipelines.subdaps.draws import draw, paired_noise
from ...pipelines.subdaps.options import BY_STEPS, SamplerOptions, schedule_for
from ...pipelines.subdaps.sampler import restore
from ...pipelines.subdaps.switch import SwitchRule, never
from ...pipelines.updates.conjugate_gradient import ConjugateGradient
from ...pipelines.updates.update import MeasurementUpdate
from ..comfyui import host
from ..comfyui.model_patches import refuse_bound_prior
from ..comfyui.recorded import played
from ..images import Layout, to_image, to_preview
from ..latents import glimpse
from ..memory import check_room
from ..watched import WatchedOperator, WatchedPrior
from ..widgets import SEED, expect, socket, widgets_of
from .cautions import cautions
from .correctors import correctors_of, read_in, states_of
from .trajectory import RestorationTrajectory, on_cpu

CATEGORY = "Undegrade/posterior"
LATER = ("complementary", "draws", "device_noise", "schedule")
TRIES = 2  # predictions that a pullback through the network is held against, at each level


class PosteriorSampler:
    """DIFFUSION_PRIOR, MEASUREMENT -> restored IMAGE."""

    DESCRIPTION = (
        "Restores a picture whose degradation is known: draws one that the prior finds natural "
        "and that the same degradation turns into the measurement. With Multi-Resolution Prior "
        "this is SubDAPS++."
    )
    SEARCH_ALIASES = (
        "SubDAPS++",
        "DAPS",
        "DPS",
        "restore",
        "deblur",
        "inpaint",
        "super-resolution",
    )
    CATEGORY = CATEGORY
    FUNCTION = "sample"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "RESTORATION_TRAJECTORY")
    RETURN_NAMES = ("image", "trajectory")
    OUTPUT_TOOLTIPS = (
        "The restored pictures: the network's last prediction. All samples of picture 0 come "
        "first.",
        "For Trajectory Corrector and Trajectory Preview.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        samples = {
            "default": 1,
            "min": 1,
            "max": 64,
            "tooltip": "How many answers to draw for each picture, side by side. Posterior "
            "Statistics turns them into a mean, which is closer to the truth, and an uncertainty "
            "map.",
        }
        keep = {
            "default": False,
            "tooltip": "Keep every step for Trajectory Preview. Off, memory does not grow with "
            "the steps; Trajectory Corrector works either way.",
        }
        options = widgets_of(SamplerOptions)
        later = {name: options.pop(name) for name in LATER}  # saved values go by their place
        return {
            "required": {
                "prior": socket(
                    "DIFFUSION_PRIOR",
                    "What pictures look like. With a latent prior the measurement is taken through "
                    "the decoder: every step of the update costs several decoder passes, 4.5 for a "
                    "CG step, and the memory of a backward pass.",
                ),
                "measurement": socket(
                    "MEASUREMENT", "The degraded picture and how it was degraded."
                ),
                "seed": SEED,
                **options,
                "samples": ("INT", samples),
                "keep_trajectory": ("BOOLEAN", keep),
            },
            "optional": {
                "update": socket(
                    "MEASUREMENT_UPDATE", "Without it: CG Measurement Update's defaults."
                ),
                "switch": socket("SWITCH_RULE", "Without it: stochastic to the end."),
                **later,
            },
            "hidden": {"graph": "PROMPT"},
        }

    def sample(
        self,
        prior: Prior,
        measurement: Measurement,
        seed: int,
        samples: int,
        keep_trajectory: bool,
        update: MeasurementUpdate | None = None,
        switch: SwitchRule | None = None,
        graph: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Run the sampler with progress, previews and interruption, and with correctors where the
        graph has somebody who reads the trajectory."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        expect(measurement, Measurement, "measurement", "Degrade Image or Measurement From Image")
        if update is not None:
            expect(update, MeasurementUpdate, "update", "CG Measurement Update or another")
        if switch is not None:
            expect(switch, SwitchRule, "switch", "Deterministic Switch or another rule")
        chosen = SamplerOptions(**options)
        if chosen.draws:
            check_draws(prior, chosen, switch)
        check_room(prior, samples * len(measurement.y), *measurement.image_size)
        with host.running(prior, measurement.operator) as device:
            result = run(
                prior,
                measurement,
                device,
                chosen,
                seed,
                samples,
                keep_trajectory,
                update or ConjugateGradient(),
                switch or never,
                read_in(graph),
            )
        if result[1].states is None:
            run_of = partial(self.sample, prior, measurement, seed, samples, False, update, switch)
            again = cache(lambda: run_of(**options)["result"][1])  # one for all who read it
            result = result[0], replace(result[1], again=again)
        return {"ui": {"text": cautions(prior, chosen, update)}, "result": result}


def run(
    prior: Prior,
    measurement: Measurement,
    device: torch.device,
    chosen: SamplerOptions,
    seed: int,
    samples: int,
    keep_trajectory: bool,
    update: MeasurementUpdate,
    switch: SwitchRule,
    corrected: bool = True,
) -> tuple[Tensor, RestorationTrajectory]:
    """The sampler's generator, with its correctors, previews and progress."""
    many = measurement.y.repeat_interleave(samples, 0).to(device)
    watched = measurement.at(WatchedOperator(measurement.operator), many)
    together = measurement.operator.smooth or len(many) == 1
    runs = 1 if together else len(many)
    schedule = levels_for(prior, chosen, measurement)
    tries = TRIES * len(set(schedule.factors)) if update.through_network else 0
    progress = host.Progress(
        (schedule.steps + tries) * chosen.ode_steps * runs, "Posterior Sampler"
    )
    seeds = [seed + b for b in range(len(many))]
    noise_of = noises_of(chosen, device)
    noise = noise_of(seeds) if together else [noise_of([s]) for s in seeds]
    correctors = correctors_of(schedule) if corrected else []
    kept: list[Step] = []
    step = None
    with played(prior, device) as (quick, replay):
        sampler, own = sampler_of(chosen, switch, replay)
        run_of = sampler if together else partial(restore_apart, sampler=sampler)
        for step in run_of(WatchedPrior(quick, progress), watched, schedule, update, noise, **own):
            for corrector in correctors:
                corrector.add(step)
            if keep_trajectory:
                kept.append(on_cpu(step))
            left = (schedule.steps - 1 - step.index) * chosen.ode_steps
            progress.value = progress.total - left * runs
            progress.show(lambda step=step: to_preview(glimpse(step, prior.codec)))
    assert step is not None
    layout = getattr(measurement, "layout", Layout())
    image = to_image(picture(step.x0_hat, step.size, prior.codec), layout)
    return image, RestorationTrajectory(
        tuple(kept), states_of(correctors), step.size, layout, prior
    )


def levels_for(prior: Prior, chosen: SamplerOptions, measurement: Measurement) -> Schedule:
    """The run's schedule. Raises `ValueError` for a prior that can do no schedule of several
    resolutions, as Multi-Resolution Prior does."""
    schedule = schedule_for(prior, chosen, measurement)
    if chosen.tuned:
        refuse_bound_prior(prior, "smaller ones")
    return schedule


def noises_of(chosen: SamplerOptions, device: torch.device) -> Callable[[list[int]], Noise]:
    """From seeds to what draws."""
    drawn_there = partial(noise_of_device, device=device)
    source: Callable[[list[int]], Noise] = drawn_there if chosen.device_noise else per_sample_noise
    return partial(paired_noise, source_of=source) if chosen.draws else source


def sampler_of(
    chosen: SamplerOptions, switch: SwitchRule, replay: Replay
) -> tuple[Callable, dict[str, Any]]:
    """The generator that runs, and the arguments that are its own."""
    if chosen.draws:
        return draw, {}
    names = ("belief", "ode_steps", "complementary", "tuned")
    own = {name: getattr(chosen, name) for name in names}
    return restore, {"switch": switch, "replay": replay, "renoise": chosen.drawn, **own}


def check_draws(prior: Prior, chosen: SamplerOptions, switch: SwitchRule | None) -> None:
    """Raise `ValueError` for what does not go with draws."""
    if prior.spec.errors is None:
        raise ValueError(
            f"How far the predictions of {prior.spec.name} lie from the truth is not known, and "
            "draws need it; put Measure Prior Error behind the prior, or turn draws off."
        )
    if switch is not None or chosen.ode_steps > 1 or chosen.renoise == 0 or chosen.tuned:
        raise ValueError(
            "Draws take steps of their own with all their noise; disconnect the switch and set "
            f"ode_steps to 1, renoise above 0 and schedule to {BY_STEPS!r}, or turn draws off."
        )
