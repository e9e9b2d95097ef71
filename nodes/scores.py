"""Inspection: does the restored picture explain the measurement, and how close is it to the
truth?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..pipelines.measurement import Measurement
from ..pipelines.metrics import SMALLEST, lpips, psnr, ssim
from ..pipelines.updates.fletcher_reeves import fletcher_reeves
from .degradation.operators import beside
from .images import to_image, to_pixels
from .widgets import expect, socket

CATEGORY = "Undegrade/inspect"
CONSISTENT_RHO = 1e-4  # weight of staying near the picture while it is made to fit the measurement
CONSISTENT_ITERATIONS = 50


class MeasurementConsistency:
    """IMAGE, MEASUREMENT -> residual IMAGE, FLOAT, back-projected IMAGE."""

    DESCRIPTION = (
        "Degrades the restored picture again and compares it with the measurement. A ratio of 1 "
        "means that what is left is just the noise; far above 1, the picture contradicts the "
        "measurement; far below 1, it reproduces the noise. What the residual does not show, the "
        "prior made up."
    )
    SEARCH_ALIASES = ("data fidelity", "residual", "hallucination", "what did the model make up")
    CATEGORY = CATEGORY
    FUNCTION = "compare"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "FLOAT", "IMAGE")
    RETURN_NAMES = ("residual", "noise_ratio", "back_projected")
    OUTPUT_TOOLTIPS = (
        "y - A(image) times the gain, on mid grey: grey means no difference.",
        "Root mean square of the residual, divided by the noise level.",
        "The nearest picture that explains the measurement exactly, noise included.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        gain = {
            "default": 4.0,
            "min": 0.1,
            "max": 1000.0,
            "step": 0.1,
            "tooltip": "Multiplies the residual for viewing.",
        }
        return {
            "required": {
                "image": socket("IMAGE", "The restored picture, of the size of the original."),
                "measurement": socket("MEASUREMENT", "What it was restored from."),
                "gain": ("FLOAT", gain),
            }
        }

    def compare(self, image: Tensor, measurement: Measurement, gain: float) -> dict[str, Any]:
        """The residual, its size in units of the noise, and the back-projection."""
        expect(measurement, Measurement, "measurement", "Degrade Image or Measurement From Image")
        pixels, layout = to_pixels(image)
        operator = measurement.operator
        pixels = beside(operator, pixels)
        y = for_batch(measurement.y.to(pixels.device), pixels.shape[0])
        residual = operator.residual(operator.observe(y - operator(pixels)))
        seen = operator.observe(torch.ones_like(y)).mean()
        ratio = (residual.square().mean() / seen).sqrt().item() / measurement.noise_level
        nearest = fletcher_reeves(operator, y, pixels, CONSISTENT_RHO, CONSISTENT_ITERATIONS, 1e-4)
        text = f"residual / noise level = {ratio:.3f}"
        result = (to_image(gain * residual), ratio, to_image(nearest, layout))
        return {"ui": {"text": [text]}, "result": result}


class ScoreRestoration:
    """IMAGE, reference IMAGE -> PSNR, SSIM, LPIPS, STRING."""

    DESCRIPTION = (
        "Compares a restored picture with the true one: PSNR, SSIM, and LPIPS where installed."
    )
    SEARCH_ALIASES = ("PSNR", "SSIM", "LPIPS", "metrics", "compare")
    CATEGORY = CATEGORY
    FUNCTION = "score"
    OUTPUT_NODE = True
    RETURN_TYPES = ("FLOAT", "FLOAT", "FLOAT", "STRING")
    RETURN_NAMES = ("psnr", "ssim", "lpips", "report")
    OUTPUT_TOOLTIPS = (
        "Peak signal-to-noise ratio in dB, the mean over the batch; higher is closer.",
        "Structural similarity (11x11 Gaussian window of 1.5 pixels), at most 1; higher is closer.",
        "Learned perceptual distance (AlexNet), lower is closer; NaN without the lpips package.",
        "All of them in one line.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        label = {"default": "", "tooltip": "Put before the figures, to tell reports apart."}
        return {
            "required": {
                "image": socket("IMAGE", "The restored picture."),
                "reference": socket("IMAGE", "The true picture, of the same size."),
                "label": ("STRING", label),
            }
        }

    def score(self, image: Tensor, reference: Tensor, label: str) -> dict[str, Any]:
        """The scores of colours (alpha is not compared)."""
        pixels, _ = to_pixels(image)
        truth, _ = to_pixels(reference, "reference")
        truth = for_batch(truth.to(pixels.device), pixels.shape[0])
        if pixels.shape != truth.shape:
            raise ValueError(
                f"image is {pixels.shape[-1]}x{pixels.shape[-2]} and reference "
                f"{truth.shape[-1]}x{truth.shape[-2]} pixels; scale or crop one of them."
            )
        if min(pixels.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"image is {pixels.shape[-1]}x{pixels.shape[-2]} pixels, too small for SSIM's "
                f"window; give at least {SMALLEST} a side, or leave Score Restoration out."
            )
        p, s, d = psnr(pixels, truth).mean(), ssim(pixels, truth).mean(), lpips(pixels, truth)
        perceptual = "LPIPS not installed" if d is None else f"LPIPS {d.mean():.4f}"
        report = f"{label + ': ' if label else ''}PSNR {p:.2f} dB, SSIM {s:.4f}, {perceptual}"
        values = (p.item(), s.item(), float("nan") if d is None else d.mean().item(), report)
        return {"ui": {"text": [report]}, "result": values}


def for_batch(y: Tensor, batch: int, name: str = "the other side") -> Tensor:
    """y with every picture repeated until there are `batch`, which must be a multiple of its
    own. name: y's, for the user."""
    if batch % y.shape[0]:
        raise ValueError(
            f"The numbers of pictures in image and {name} are {batch} and {y.shape[0]}; give as "
            "many, or a multiple."
        )
    return y.repeat_interleave(batch // y.shape[0], 0)
