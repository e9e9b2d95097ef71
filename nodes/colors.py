"""Colours of one picture, detail of another."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..pipelines.color import METHODS, match_colors
from .images import to_image, to_pixels
from .scores import for_batch
from .widgets import socket

CATEGORY = "Undegrade/inversion"
SHAPE_FREE = ("AdaIN",)


class MatchColors:
    """IMAGE, reference IMAGE -> IMAGE."""

    DESCRIPTION = (
        "Gives a restored or generated picture the colours of a reference, usually the picture "
        "it was made from, and keeps its detail. Repairs the colour shift of diffusion "
        "upscalers. A reference of another size is resized to the image."
    )
    SEARCH_ALIASES = ("color fix", "colour transfer", "wavelet color fix", "AdaIN", "color match")
    CATEGORY = CATEGORY
    FUNCTION = "match"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The image with the reference's colours, clipped to what can be shown.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        method = (
            "wavelet: low frequencies of the reference, fine detail of the image (repairs stains "
            "too). AdaIN: mean and contrast per channel, for references of any content. YCbCr and "
            "Lab: brightness of the image, colours of the reference at every pixel."
        )
        strength = {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "0 leaves the image as it is, 1 matches it fully.",
        }
        reference = (
            "The picture with the right colours: one for all images, or one each. Resized to the "
            "image by bicubic interpolation with antialiasing where the sizes differ. Its alpha "
            "is not used."
        )
        return {
            "required": {
                "image": socket("IMAGE", "The picture to repair. Its alpha is kept."),
                "reference": socket("IMAGE", reference),
                "method": (list(METHODS), {"default": "wavelet", "tooltip": method}),
                "strength": ("FLOAT", strength),
            }
        }

    def match(
        self, image: Tensor, reference: Tensor, method: str, strength: float
    ) -> dict[str, Any]:
        """Match, and tell where the reference was resized."""
        pixels, layout = to_pixels(image)
        guide = for_batch(to_pixels(reference, "reference")[0], pixels.shape[0])
        if method not in SHAPE_FREE:
            check_same_view(pixels, guide, method)
        matched = to_image(match_colors(pixels, guide, method, strength), layout)
        said = []
        if guide.shape != pixels.shape:
            said.append(f"reference resized from {sides(guide)} to {sides(pixels)} pixels")
        return {"ui": {"text": said}, "result": (matched,)}


def check_same_view(pixels: Tensor, guide: Tensor, method: str) -> None:
    """Raise `ValueError` where the sides are not in the same ratio, within one pixel."""
    (height, width), (h, w) = pixels.shape[-2:], guide.shape[-2:]
    if abs(width * h - height * w) > max(height, width, h, w):
        raise ValueError(
            f"image is {sides(pixels)} and reference {sides(guide)} pixels, which are different "
            f"shapes, and {method} compares them pixel by pixel; crop one of them, or choose "
            f"{', '.join(SHAPE_FREE)}."
        )


def sides(pixels: Tensor) -> str:
    """ "width x height" for messages."""
    return f"{pixels.shape[-1]}x{pixels.shape[-2]}"
