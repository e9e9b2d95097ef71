"""What the answers of a sampler say together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...pipelines.posterior_statistics import Summary, summarised
from ..images import given, settled
from ..widgets import expect, socket

CATEGORY = "Undegrade/posterior"


class PosteriorStatistics:
    """IMAGE batch -> mean, uncertainty, and within what the truth is expected."""

    DESCRIPTION = (
        "Where do the answers agree? The mean of several samples is closer to the truth than any "
        "of them; their spread shows what the prior made up. With samples of a Posterior Sampler "
        "whose draws is on it also says how far off the mean may be."
    )
    SEARCH_ALIASES = (
        "uncertainty",
        "mean image",
        "standard deviation",
        "hallucination",
        "confidence interval",
        "error bars",
    )
    CATEGORY = CATEGORY
    FUNCTION = "summarise"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "MASK", "FLOAT", "IMAGE", "IMAGE", "MASK", "STRING")
    RETURN_NAMES = ("mean", "uncertainty", "mean_std", "lower", "upper", "certain", "report")
    OUTPUT_TOOLTIPS = (
        "The mean of the samples of each picture.",
        "Standard deviation over the samples, root mean square over colours, with pixels from 0 "
        "to 1, times the gain; clipped to 1.",
        "The mean of the uncertainty before the gain.",
        "The lower ends of the intervals in which the truth is expected, pixel by pixel.",
        "Their upper ends.",
        "White where the truth is expected within the tolerance of the mean.",
        "The same in words.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        samples = "How many consecutive pictures are answers to one picture; 0: the whole batch."
        gain = "Multiplies the uncertainty for viewing: 10 makes a standard deviation of 0.1 white."
        percentage = "How often the truth shall lie between lower and upper."
        tolerance = (
            "How far from the mean is still certain, with pixels from 0 to 1: 0.05 is 13 of 255."
        )
        calibration = (
            "Multiplies the spread in the intervals, the map and the words: the ratio of error to "
            "spread, where you measured one on pictures that you know. 1 for a Posterior Sampler "
            "with draws on. Mean, uncertainty and mean_std stay as they are."
        )
        return {
            "required": {
                "images": socket(
                    "IMAGE", "Samples, from a Posterior Sampler with samples above 1."
                ),
                "samples": ("INT", {"default": 0, "min": 0, "max": 4096, "tooltip": samples}),
                "gain": number(10.0, 0.0, 1000.0, 0.5, gain),
            },
            "optional": {
                "percentage": number(95.0, 1.0, 99.9, 1.0, percentage),
                "tolerance": number(0.05, 0.0, 1.0, 0.01, tolerance),
                "calibration": number(1.0, 0.01, 100.0, 0.05, calibration),
            },
        }

    def summarise(
        self,
        images: Tensor,
        samples: int,
        gain: float,
        percentage: float = 95.0,
        tolerance: float = 0.05,
        calibration: float = 1.0,
    ) -> dict[str, Any]:
        """Mean and standard deviation (divided by K - 1) over each group of K pictures, and what
        follows from them."""
        expect(images, Tensor, "images", "an IMAGE batch")
        count = samples or images.shape[0]
        if count < 2 or images.shape[0] % count:
            raise ValueError(
                f"The number of pictures, {images.shape[0]}, does not divide into groups of "
                f"{count}; give two or more samples per picture (widget 'samples' of Posterior "
                "Sampler)."
            )
        if not torch.isfinite(images).all():
            raise ValueError(
                "images has NaN or infinite pixels; leave out the samples that failed, or repair "
                "them."
            )
        groups = images.float().unflatten(0, (-1, count))  # (P, K, H, W, C)
        std = groups[..., :3].var(1).mean(-1).sqrt()
        found = summarised(groups[..., :3], percentage, tolerance, calibration)
        report = told(found, count, percentage, tolerance, calibration)
        result = (
            given(settled(groups.mean(1))),
            given((std * gain).clamp(0, 1)),
            std.mean().item(),
            given(settled(found.lower)),
            given(settled(found.upper)),
            given(found.certain.float()),
            report,
        )
        return {"ui": {"text": [report]}, "result": result}


def number(default: float, least: float, most: float, step: float, tooltip: str) -> Any:
    """A FLOAT widget."""
    return "FLOAT", {
        "default": default,
        "min": least,
        "max": most,
        "step": step,
        "tooltip": tooltip,
    }


def told(
    found: Summary, count: int, percentage: float, tolerance: float, factor: float
) -> str:
    """What the answers say, in words, a paragraph per picture."""
    held = "" if factor == 1 else f" Spreads were multiplied by {factor:g}, a measured factor."
    lines = []
    for b, (within, invented) in enumerate(zip(found.within, found.invented, strict=True)):
        which = "" if len(found.within) == 1 else f"Picture {b}: "
        certain = float(found.certain[b].float().mean())
        lines.append(
            f"{which}{percentage:g} % of the pixels are expected within +-{within:.2g} of the mean "
            f"(from 0 to 1); {certain:.0%} of the picture is certain to +-{tolerance:g}; "
            f"{invented:.0%} is mostly invented: there {count} answers differ by more than they "
            f"share.{held}"
        )
    return "\n".join(lines)
