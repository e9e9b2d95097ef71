"""The node that reads from a picture how it was compressed."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...pipelines.operators.contract import Operator
from ...pipelines.operators.jpeg import JPEG
from ...pipelines.photograph.jpeg_quality import HARMLESS, NEAR, Quality, estimate_quality
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
        """The socket, and what the file may have said."""
        image = socket("IMAGE", "The picture as it came from its file, not resized since.")
        known = {
            "default": 0,
            "min": 0,
            "max": 100,
            "tooltip": "The quality that the file's own tables tell, where you know it; the "
            "undegrade command reads it. 0 finds it from the pixels. Where the pixels tell surely "
            "of a lower one, the picture was saved before, and that one counts.",
        }
        return {"required": {"image": image, "known_quality": ("INT", known)}}

    def estimate(self, image: Tensor, known_quality: int = 0) -> dict[str, Any]:
        """One quality for the batch.

        Raises `ValueError` where its pictures were saved with qualities further apart than the
        estimate is off, whose blocks begin elsewhere, or a picture has fewer than four blocks.
        """
        pixels, _ = to_pixels(image)
        found: list[Quality] = []
        for picture in pixels:
            host.check_interrupted()
            found.append(estimate_quality(picture))
        before = [told(each) for each in found]
        if known_quality:
            found = [settled(each, known_quality) for each in found]
        qualities = [each.quality for each in found]
        lowest, highest = min(qualities), max(qualities)
        if highest - lowest > NEAR:
            raise ValueError(
                f"The pictures were saved with qualities from {lowest} to {highest}, and one JPEG "
                "operator has one; give them one by one."
            )
        places = {(each.top, each.left) for each in found if each.found}
        if len(places) > 1:
            raise ValueError(
                "The blocks of the pictures begin in different places, and one JPEG operator has "
                "one; give them one by one."
            )
        operator: Operator = JPEG(lowest, *next(iter(places), (0, 0)))
        said = map(said_of_file, found, before) if known_quality else before
        text = "\n".join(dict.fromkeys(said))
        return {"ui": {"text": [text]}, "result": (lowest, operator, text)}


def settled(found: Quality, known: int) -> Quality:
    """What the pixels told, with the quality of the file where it is not surely a later one."""
    if known > HARMLESS:
        return found
    earlier = found.found and found.sure and found.quality < known - NEAR
    if earlier or (found.found and (found.top or found.left)):
        return found  # saved again, or cropped in between
    return Quality(known, True, True)


def said_of_file(found: Quality, before: str) -> str:
    """What counts, in words, where the file told of a quality too."""
    if found.quality == 100 or before == told(found):
        return before
    return f"JPEG quality {found.quality}, as the file says"


def told(found: Quality) -> str:
    """What was found, in words."""
    if not found.found:
        text = "no JPEG blocks or ringing found that would need repair; quality 100"
        return text if found.sure else f"{text}; not sure: the picture is flat or clipped"
    text = f"JPEG quality {found.quality}, {'sure' if found.sure else 'not sure'}"
    if found.top or found.left:
        text += (
            "; the picture was cropped since it was saved: its blocks begin after "
            f"{found.top} rows and {found.left} columns"
        )
    return text
