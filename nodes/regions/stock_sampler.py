"""Region-adaptive sampling in ComfyUI's own sampling nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...pipelines.adadiffsr.injection import FeatureInjection, Injection
from ...pipelines.adadiffsr.regions import RegionOptions
from ...pipelines.adadiffsr.step_policy import StepPolicy
from ...pipelines.adadiffsr.trained_gain import GainMaps
from ...pipelines.options import option
from ..comfyui.guider_prior import available
from ..comfyui.region_levels import PIXELS
from ..comfyui.region_sampler import RegionSampler
from ..widgets import expect, socket, widgets_of
from .policy import CATEGORY
from .sampler import TILES_PER_CALL


@dataclass(frozen=True)
class StockRegionOptions(RegionOptions):
    """How regions of any MODEL are tiled and sampled."""

    noise: float = option(
        1.0,
        "How much of the first noise is really added: 1 as in every stock sampler; less keeps more "
        "of the picture; 0 makes nothing up.",
        min=0.0,
        max=1.0,
        step=0.05,
        advanced=True,
    )
    tile: int = option(
        0,
        "Side of a tile in pixels of the picture (8 to a latent's); 0 is what the model was "
        "trained on: 512 for SD 1 and 2, else 1024.",
        min=0,
        max=16384,
        step=8,
    )
    overlap: int = option(
        256,
        "How much neighbouring tiles share, in pixels of the picture, less than the tile. Half a "
        "tile where tiles are stitched only once.",
        min=0,
        max=8192,
        step=8,
    )


class RegionAdaptiveSamplerStock:
    """Widgets, STEP_POLICY, FEATURE_INJECTION -> SAMPLER."""

    DESCRIPTION = (
        "A SAMPLER for SamplerCustomAdvanced that samples any MODEL tile by tile and gives each "
        "region only the steps it needs: flat ones skip, detailed ones do not (AdaDiffSR). "
        "ControlNet hints, masks and inpainting follow the tiles."
    )
    SEARCH_ALIASES = (
        "AdaDiffSR",
        "tiled sampler",
        "tiled diffusion",
        "upscale",
        "ultimate upscale",
        "adaptive steps",
    )
    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("SAMPLER",)
    RETURN_NAMES = ("sampler",)
    OUTPUT_TOOLTIPS = (
        "For SamplerCustomAdvanced; its SIGMAS are the steps of the hardest region.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {**widgets_of(StockRegionOptions), "tiles_per_call": TILES_PER_CALL},
            "optional": {
                "policy": socket("STEP_POLICY", "Without it: Step Policy's defaults."),
                "injection": socket(
                    "FEATURE_INJECTION", "Without it predictions are not held to the picture."
                ),
                "regressor": socket(
                    "REGION_REGRESSOR",
                    "One that was trained with this model. Without it gains are read off the "
                    "predictions, with no trained weights.",
                ),
            },
        }

    def make(
        self,
        tiles_per_call: int,
        policy: StepPolicy | None = None,
        injection: Injection | None = None,
        regressor: GainMaps | None = None,
        **options: Any,
    ) -> tuple[RegionSampler]:
        """The sampler; nothing runs before SamplerCustomAdvanced."""
        if not available():
            raise RuntimeError(
                "Region-Adaptive Sampler (stock) works inside ComfyUI only; use Region-Adaptive "
                "Sampler elsewhere."
            )
        expect(policy or StepPolicy(), StepPolicy, "policy", "Step Policy or Calibrate Regions")
        if injection is not None and not callable(injection):
            expect(injection, FeatureInjection, "injection", "Feature Injection")
        if regressor is not None:
            expect(regressor, GainMaps, "regressor", "Load Region Entropy Regressor")
        chosen = StockRegionOptions(**options)
        for name, pixels in (("tile", chosen.tile), ("overlap", chosen.overlap)):
            if pixels % PIXELS:
                raise ValueError(f"{name} is {pixels} pixels; give a multiple of {PIXELS}.")
        return (
            RegionSampler(
                policy or StepPolicy(),
                chosen,
                chosen.tile,
                chosen.overlap,
                tiles_per_call,
                injection,
                regressor,
            ),
        )
