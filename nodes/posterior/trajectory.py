"""What to do with a run: correct it, and look at its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ...models.codec import Codec, Identity
from ...models.prior import Prior
from ...pipelines.step import Step
from ...pipelines.subdaps.corrector import COEFFICIENTS, corrected
from ..comfyui import host
from ..images import Layout, to_image
from ..latents import full_size
from ..widgets import expect, socket

CATEGORY = "Undegrade/posterior"
SHOWN = {
    "prediction": "x0_hat",
    "after the measurement": "x0_y",
    "noisy state": "x",
}


@dataclass(frozen=True, eq=False)
class RestorationTrajectory:
    """What RESTORATION_TRAJECTORY carries, on the CPU: the kept steps (none unless asked for), the
    correctors' states, and the prior, whose codec decodes both.

    states: of each kind of coefficients, (B, C, h, w); one tensor for both where they agree. None
    where nobody was connected who reads them: `again` makes the run once more, with them.
    size: (H, W) of the picture.
    """

    steps: tuple[Step, ...]
    states: dict[str, Tensor] | None
    size: tuple[int, int]
    layout: Layout
    prior: Prior
    again: Callable[[], RestorationTrajectory] | None = None

    def state(self, coefficients: str) -> Tensor:
        """The corrector's, of this kind of coefficients."""
        if self.states is None:
            assert self.again is not None
            return self.again().state(coefficients)
        return self.states[coefficients]


def on_cpu(step: Step) -> Step:
    """The step with its tensors on the CPU."""
    tensors = {f.name: getattr(step, f.name) for f in fields(step)}
    return replace(step, **{k: v.cpu() for k, v in tensors.items() if isinstance(v, Tensor)})


class TrajectoryCorrector:
    """RESTORATION_TRAJECTORY -> IMAGE."""

    DESCRIPTION = (
        "SubDAPS++'s last stage: a second-order recombination of the run's predictions in place "
        "of the last one. The paper gains from it with its own weights; with the built-in prior "
        "it costs a little PSNR."
    )
    SEARCH_ALIASES = ("SubDAPS++", "second order", "corrector")
    CATEGORY = CATEGORY
    FUNCTION = "correct"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The corrected pictures.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tooltip = (
            "'official' is the released code's weights, 'consistent' the paper's formula. They "
            "differ only for priors with discrete time steps."
        )
        return {
            "required": {
                "trajectory": socket("RESTORATION_TRAJECTORY", "A Posterior Sampler's run."),
                "coefficients": (list(COEFFICIENTS), {"default": "official", "tooltip": tooltip}),
            }
        }

    def correct(self, trajectory: RestorationTrajectory, coefficients: str) -> tuple[Tensor]:
        """The corrector's result; it ran beside the sampler, or does now."""
        expect(trajectory, RestorationTrajectory, "trajectory", "Posterior Sampler's trajectory")
        state = trajectory.state(coefficients)
        with decoding(trajectory.prior) as (codec, device):
            image = corrected(state.to(device), trajectory.size, codec)
            return (to_image(image, trajectory.layout),)


class TrajectoryPreview:
    """RESTORATION_TRAJECTORY -> IMAGE batch."""

    DESCRIPTION = (
        "The steps of a run as pictures, the noisiest first; coarse steps enlarged pixel by pixel."
    )
    SEARCH_ALIASES = ("intermediate steps", "animation", "debug sampler")
    CATEGORY = CATEGORY
    FUNCTION = "show"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("images",)
    OUTPUT_TOOLTIPS = ("One picture per shown step.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        number = {
            "default": 8,
            "min": 1,
            "max": 1000,
            "tooltip": "At most so many steps, evenly spaced.",
        }
        sample = {"default": 0, "min": 0, "max": 4095, "tooltip": "Which picture of the batch."}
        show = {"default": "prediction", "tooltip": "Which of a step's three pictures."}
        return {
            "required": {
                "trajectory": socket("RESTORATION_TRAJECTORY", "A run with keep_trajectory on."),
                "show": (list(SHOWN), show),
                "frames": ("INT", number),
                "sample": ("INT", sample),
            }
        }

    def show(
        self, trajectory: RestorationTrajectory, show: str, frames: int, sample: int
    ) -> tuple[Tensor]:
        """Evenly spaced steps, the first and the last among them."""
        expect(trajectory, RestorationTrajectory, "trajectory", "Posterior Sampler's trajectory")
        steps = trajectory.steps
        if not steps:
            raise ValueError(
                "The run kept no steps; turn keep_trajectory on at its Posterior Sampler."
            )
        if sample >= steps[0].x.shape[0]:
            raise ValueError(
                f"Picture {sample} was asked for, and the last of the run is "
                f"{steps[0].x.shape[0] - 1}."
            )
        chosen = torch.linspace(0, len(steps) - 1, min(frames, len(steps))).round().int().tolist()
        shown = [getattr(steps[i], SHOWN[show])[sample : sample + 1] for i in chosen]
        with decoding(trajectory.prior) as (codec, device):
            pictures = [
                full_size(codec.decode(x.to(device)).cpu(), steps[i])
                for i, x in zip(chosen, shown, strict=True)
            ]
        return (to_image(torch.cat(pictures)),)


@contextmanager
def decoding(prior: Prior) -> Iterator[tuple[Codec, torch.device]]:
    """The prior's codec ready for the block, and the device of the kept latents; pixels need
    neither."""
    if isinstance(prior.codec, Identity):
        yield prior.codec, torch.device("cpu")
        return
    with host.running(prior) as device:
        yield prior.codec, device
