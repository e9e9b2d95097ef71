"""The trained estimator of what regions gain."""

from __future__ import annotations

from typing import Any

from ...models.region_regressor import BUILT_IN_REGRESSOR, RegionRegressor, load_region_regressor
from ..comfyui import host
from ..priors import BUILT_IN_NAME
from .policy import CATEGORY

FOLDER = "region_regressors"

host.register_folder(FOLDER)


class LoadRegionEntropyRegressor:
    """Weight file -> REGION_REGRESSOR."""

    DESCRIPTION = (
        "Loads the network that predicts how much each region still gains from sampling on "
        "(AdaDiffSR's region entropy). Region-Adaptive Sampler then asks it instead of reading the "
        "gain off the predictions. A regressor belongs to one prior; the built-in one to the "
        "built-in prior."
    )
    SEARCH_ALIASES = ("AdaDiffSR", "MMLE", "information gain", "adaptive steps", "load model")
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("REGION_REGRESSOR",)
    RETURN_NAMES = ("regressor",)
    OUTPUT_TOOLTIPS = ("Predicts how much each region still gains.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tooltip = f"A regressor in models/{FOLDER}, trained for the prior you use."
        return {"required": {"file": (regressor_files(), {"tooltip": tooltip})}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("file", file, regressor_files(), FOLDER)

    def load(self, file: str) -> tuple[RegionRegressor]:
        """Read the file and recognise it."""
        built_in = file == BUILT_IN_NAME
        path = BUILT_IN_REGRESSOR if built_in else host.model_path(FOLDER, file)
        return (load_region_regressor(path),)


def regressor_files() -> list[str]:
    """What Load Region Entropy Regressor offers."""
    return [BUILT_IN_NAME, *host.model_files(FOLDER)]
