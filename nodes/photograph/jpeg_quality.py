"""The node that reads from a picture how it was compressed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...pipelines.operators.contract import Operator
from ...pipelines.operators.jpeg import JPEG
from ...pipelines.photograph.jpeg_quality import NEAR, Quality, estimate_quality
from ..comfyui import host
from ..degradation.operators import CATEGORY
from ..images import to_pixels
from ..widgets import socket


class EstimateJPEGQuality:
    """IMAGE -> INT, operator, STRING."""

    DESCRIPTION = (
        "Finds out from the pixels with which quality a picture was saved as JPEG, for the JPEG "
        "operator: repair of blocks and ringing without knowing the file. Also of a PNG that was "
        "a JPEG once, as long as it was not resized since."
    )
    SEARCH_ALIASES = (
        "JPEG quality",
        "compression",
        "artifacts",
        "blocking",
        "web picture",
        "quantization",
        "压缩",
        "马赛克",
    )
    CATEGORY = CATEGORY
    FUNCTION = "estimate"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("INT", "DEGRADATION_OPERATOR", "STRING")
    RETURN_NAMES = ("quality", "operator", "report")
    OUTPUT_TOOLTIPS = (
        "Quality from 1 to 100 as most programs count it; 100 where no traces of JPEG were found.",
        "JPEG at this quality, for Measurement From Image or Compose Operators.",
        "What was found, and whether it is sure.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The socket."""
        image = socket("IMAGE", "The picture as it came from its file, not resized since.")
        return {"required": {"image": image}}

    def estimate(self, image: Tensor) -> dict[str, Any]:
        """One quality for the batch.

        Raises `ValueError` where its pictures were saved with qualities further apart than the
        estimate is off, or a picture has fewer than four blocks.
        """
        pixels, _ = to_pixels(image)
        found: list[Quality] = []
        for picture in pixels:
            host.check_interrupted()
            found.append(estimate_quality(picture))
        qualities = [each.quality for each in found]
        lowest, highest = min(qualities), max(qualities)
        if highest - lowest > NEAR:
            raise ValueError(
                f"The pictures were saved with qualities from {lowest} to {highest}, and one JPEG "
                "operator has one; give them one by one."
            )
        operator: Operator = JPEG(lowest)
        text = "\n".join(dict.fromkeys(map(told, found)))
        return {"ui": {"text": [text]}, "result": (lowest, operator, text)}


def told(found: Quality) -> str:
    """What was found, in words."""
    if not found.found:
        text = "no traces of JPEG found, or of a quality that harms nothing; quality 100"
        return text if found.sure else f"{text}; not sure: the picture is flat or clipped"
    text = f"JPEG quality {found.quality}, {'sure' if found.sure else 'not sure'}"
    if found.top or found.left:
        text += (
            f"; the picture was cropped since it was saved: crop {found.top} rows more at the top "
            f"and {found.left} columns at the left, since the operator counts blocks from there"
        )
    return text
