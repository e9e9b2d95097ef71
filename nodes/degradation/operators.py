"""Degradation nodes: one per operator.

A new one is its file in `pipelines/operators`, with its options and texts, and its line in
`OPERATORS`, unless it asks for more than options. Its tests come with the line."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...pipelines.operators.compose import Compose
from ...pipelines.operators.contract import Operator
from ...pipelines.operators.downscale import Downscale
from ...pipelines.operators.hdr import HDRClip
from ...pipelines.operators.inpainting import Inpainting
from ...pipelines.operators.jpeg import JPEG
from ...pipelines.operators.phase_retrieval import PhaseRetrieval
from ..comfyui import host
from ..images import to_planes
from ..widgets import expect, options_node, socket

CATEGORY = "Undegrade/degradation"
OPERATOR_TOOLTIP = (
    "The degradation, for Degrade Image, Measurement From Image or Compose Operators."
)


SHARED = {
    "CATEGORY": CATEGORY,
    "RETURN_TYPES": ("DEGRADATION_OPERATOR",),
    "RETURN_NAMES": ("operator",),
    "OUTPUT_TOOLTIPS": (OPERATOR_TOOLTIP,),
}

OPERATORS = {  # node id -> (operator whose options are all there is to ask, title)
    "UndegradeDownscale": (Downscale, "Downscale"),
    "UndegradeHDRClip": (HDRClip, "HDR Clip"),
    "UndegradePhaseRetrieval": (PhaseRetrieval, "Phase Retrieval"),
    "UndegradeJPEG": (JPEG, "JPEG"),
}
OPERATOR_NODES = {
    node_id: (options_node(operator, SHARED, operator.about, *operator.aliases), title)
    for node_id, (operator, title) in OPERATORS.items()
}


class InpaintingMaskNode:
    """MASK -> Inpainting."""

    DESCRIPTION = (
        "Missing pixels: white parts of the mask are hidden and will be made up from the rest."
    )
    SEARCH_ALIASES = (
        "inpaint", "remove object", "object removal", "erase", "heal", "hole", "missing pixels",
        "去除物体", "移除", "擦除", "修补",
    )  # fmt: skip
    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("DEGRADATION_OPERATOR",)
    RETURN_NAMES = ("operator",)
    OUTPUT_TOOLTIPS = (OPERATOR_TOOLTIP,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        threshold = {
            "default": 0.5,
            "min": 0.0,
            "max": 1.0,
            "step": 0.01,
            "tooltip": "Mask values above this are hidden; a pixel is either seen or hidden.",
        }
        mask = socket("MASK", "White is hidden. The size of the picture it belongs to.")
        return {"required": {"mask": mask, "threshold": ("FLOAT", threshold)}}

    def make(self, mask: Tensor, threshold: float) -> tuple[Operator]:
        """The operator."""
        return (Inpainting((to_planes(mask) <= threshold).float()),)


class ComposeNode:
    """Two operators -> one after the other."""

    DESCRIPTION = "First one degradation, then another; chain it for more."
    SEARCH_ALIASES = ("chain", "sequence", "combine")
    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("DEGRADATION_OPERATOR",)
    RETURN_NAMES = ("operator",)
    OUTPUT_TOOLTIPS = (OPERATOR_TOOLTIP,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "first": socket("DEGRADATION_OPERATOR", "What happens to the picture first."),
                "second": socket("DEGRADATION_OPERATOR", "What happens to the result."),
            }
        }

    def make(self, first: Operator, second: Operator) -> tuple[Operator]:
        """second(first(x))."""
        for name, operator in (("first", first), ("second", second)):
            expect(operator, Operator, name, "a degradation such as Gaussian Blur")
        return (Compose((first, second)),)


def beside(operator: Operator, pixels: Tensor) -> Tensor:
    """The pictures where the operator runs: where they are, or with its networks, if it has any,
    on the compute device."""
    if not operator.networks:
        return pixels
    target = host.device()
    host.place([*operator.networks], target)
    return pixels.to(target)
