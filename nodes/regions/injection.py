"""Progressive feature injection: without weights for any prior, with trained ones for StableSR."""

from __future__ import annotations

from typing import Any

from ...models.feature_injection import TrainedInjection, read_injection
from ...pipelines.adadiffsr.injection import FeatureInjection
from ..comfyui import host
from ..widgets import options_node
from .policy import CATEGORY

FOLDER = "feature_injections"
WRITTEN = "injection.safetensors"  # by the training

host.register_folder(FOLDER)

FeatureInjectionNode = options_node(
    FeatureInjection,
    {
        "CATEGORY": CATEGORY,
        "RETURN_TYPES": ("FEATURE_INJECTION",),
        "RETURN_NAMES": ("injection",),
        "OUTPUT_TOOLTIPS": ("How strongly regions are held to the degraded picture.",),
    },
    "Holds every prediction to the degraded picture, more where a region is growing sharper "
    "(AdaDiffSR's progressive feature injection, in a form without trained weights).",
    "AdaDiffSR",
    "ILVR",
    "PFJ",
    "fidelity",
    "tile control",
)


class LoadFeatureInjection:
    """Weight file -> STRUCT_INJECTION."""

    DESCRIPTION = (
        "Loads what this pack's training has learnt about how much a region shall take from the "
        "degraded picture while it gains (AdaDiffSR's progressive feature injection, trained). For "
        "StableSR Module. None is shipped; Feature Injection needs no training."
    )
    SEARCH_ALIASES = ("AdaDiffSR", "PFJ", "StableSR", "fidelity", "load model")
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("STRUCT_INJECTION",)
    RETURN_NAMES = ("injection",)
    OUTPUT_TOOLTIPS = ("How StableSR's maps are changed by what a region gains.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tooltip = f"A file in models/{FOLDER}, trained on the StableSR module you use."
        return {"required": {"file": (injection_files(), {"tooltip": tooltip})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("file", file, injection_files(), FOLDER)

    def load(self, file: str) -> tuple[TrainedInjection]:
        """Read the file and recognise it."""
        if file == WRITTEN and file not in host.model_files(FOLDER):
            raise FileNotFoundError(
                f"{file} is not in models/{FOLDER}; train one with `python training "
                "feature_injection` and put it there, or leave injection empty."
            )
        return (read_injection(host.model_path(FOLDER, file)),)


def injection_files() -> list[str]:
    """The user's files, and what the training calls its own."""
    return list(dict.fromkeys([*host.model_files(FOLDER), WRITTEN]))
