"""The node that spoils a picture as the real world does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...pipelines.degradation.real_world import RealWorldDegradation, degrade
from ..comfyui import host
from ..images import to_image, to_pixels, visible
from ..widgets import SEED, socket, widgets_of
from .measurement import CATEGORY


class RealWorldDegradationNode:
    """IMAGE -> a small, blurred, noisy, compressed IMAGE."""

    DESCRIPTION = (
        "Spoils a good picture as a photograph is spoilt on its way through the world: blur, "
        "resizing, noise and JPEG in random amounts (the second-order chain of Real-ESRGAN), and "
        "makes it smaller. For trying out super-resolution where the answer is known."
    )
    SEARCH_ALIASES = ("Real-ESRGAN", "synthetic low resolution", "degrade", "JPEG noise blur")
    CATEGORY = CATEGORY
    FUNCTION = "degrade"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The spoilt picture, `scale` times smaller, rounded to 8 bit.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        image = socket("IMAGE", "The good picture. Grey, RGB and RGBA of any size.")
        return {"required": {"image": image, **widgets_of(RealWorldDegradation), "seed": SEED}}

    def degrade(self, image: Tensor, seed: int, **options: Any) -> tuple[Tensor]:
        """Picture by picture, so that a cancelled run stops within one of them."""
        pixels, layout = to_pixels(image)
        pixels = visible(pixels, layout)
        known = RealWorldDegradation(**options)
        spoilt = []
        for b in range(pixels.shape[0]):
            host.check_interrupted()
            spoilt.append(degrade(pixels[b : b + 1], known, [seed + b]))
        return (to_image(torch.cat(spoilt), layout),)
