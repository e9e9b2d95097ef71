"""Blind deconvolution: which kernel blurred a picture?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...models.prior import Prior
from ...pipelines.blind.blur_estimate import estimate_blur, work
from ...pipelines.blind.blur_options import BlurOptions
from ...pipelines.noise import per_sample_noise
from ..comfyui import host
from ..degradation.blurs import kernel_image
from ..degradation.operators import CATEGORY
from ..images import to_pixels
from ..watched import WatchedPrior
from ..widgets import expect, seed, socket, widgets_of

SEED = seed("Random seed of the search. Where the answer is unsure, try another one.")


class EstimateBlurKernel:
    """DIFFUSION_PRIOR, IMAGE -> kernel, operator, noise level, confidence, report."""

    DESCRIPTION = (
        "Finds how a photograph was blurred, from the photograph alone: a shaken camera, a wrong "
        "focus, a soft lens. Connect its operator and noise level to Measurement From Image to "
        "sharpen the picture."
    )
    SEARCH_ALIASES = (
        "sharpen",
        "deblur",
        "unblur",
        "blind deconvolution",
        "camera shake",
        "out of focus",
        "blurry photo",
        "PSF",
        "锐化",
        "去模糊",
    )
    CATEGORY = CATEGORY
    FUNCTION = "estimate"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "DEGRADATION_OPERATOR", "FLOAT", "FLOAT", "STRING")
    RETURN_NAMES = ("kernel", "operator", "noise_level", "confidence", "report")
    OUTPUT_TOOLTIPS = (
        "The blur kernel as a picture, its largest value white; for Kernel Blur.",
        "The blur, for Measurement From Image. A clipped light is at least as bright as shown.",
        "Standard deviation of the noise with pixels from -1 to 1, for Measurement From Image.",
        "How sure the kernel is, 0 to 1: how well one half's kernel explains the other half.",
        "What was found, in words.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        options = widgets_of(BlurOptions)
        later = {"refine": options.pop("refine")}  # saved values go by their place
        return {
            "required": {
                "prior": socket(
                    "DIFFUSION_PRIOR",
                    "A pixel prior; it draws the sharp picture by which the kernel is checked.",
                ),
                "image": socket("IMAGE", "One blurred photograph, not resized after the blur."),
                **options,
                "seed": SEED,
            },
            "optional": later,
        }

    def estimate(self, prior: Prior, image: Tensor, seed: int, **options: Any) -> dict[str, Any]:
        """The kernel of the picture."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        pixels, _ = to_pixels(image)
        check(prior, pixels)
        chosen = BlurOptions(**options)
        progress = host.Progress(work(chosen), "Estimate Blur Kernel")
        with host.running(prior) as device:
            found = estimate_blur(
                WatchedPrior(prior, progress), pixels.to(device), chosen,
                per_sample_noise([seed]), progress.advance,
            )
        progress.reach(progress.total)  # rounds of refining that were not needed
        kernel = kernel_image(found.kernel)
        result = (kernel, found.operator, found.noise_level, found.confidence, found.report)
        return {"ui": {"text": [found.report]}, "result": result}


def check(prior: Prior, pixels: Tensor) -> None:
    """Raise `ValueError` for several pictures, or a prior of other things than pixels."""
    if pixels.shape[0] != 1:
        raise ValueError(
            f"image is a batch of {pixels.shape[0]} pictures, each with a blur of its own; give a "
            "single one."
        )
    if prior.spec.channels != 3 or prior.codec.factor != 1:
        raise ValueError(
            f"{prior.spec.name} works on latents, where a blur is no convolution; connect a pixel "
            "prior such as Load Pixel Prior."
        )
