"""Prior nodes: what pictures look like."""

from __future__ import annotations

from typing import Any

import torch

from ..models.prior import MultiResolutionPrior, Prior
from ..models.registry import BUILT_IN, load_pixel_prior
from . import host
from .widgets import expect, socket

CATEGORY = "Undegrade/priors"
BUILT_IN_NAME = "built-in"
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

host.register_folder(host.PRIOR_FOLDER)


class LoadPixelPrior:
    """Weight file -> DIFFUSION_PRIOR."""

    DESCRIPTION = (
        "Loads a pixel-space diffusion prior, recognised by its tensors. 'built-in' is the small "
        "network that ships with the pack: it works at once, keeps fine texture smooth and knows "
        "no faces. Put other weights into models/diffusion_priors."
    )
    SEARCH_ALIASES = ("diffusion prior", "denoiser", "ADM", "DDPM", "load model")
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("DIFFUSION_PRIOR",)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The denoiser that a sampler asks what the picture may look like.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        files = [BUILT_IN_NAME, *host.model_files(host.PRIOR_FOLDER)]
        return {
            "required": {
                "file": (
                    files,
                    {"tooltip": "'built-in', or a file in models/diffusion_priors."},
                ),
                "precision": (
                    list(PRECISIONS),
                    {
                        "default": "float32",
                        "tooltip": "Number format of the network's weights; the rest stays "
                        "float32. float16 halves the memory on a GPU; bfloat16 is the safer half "
                        "on new ones.",
                    },
                ),
            }
        }

    def load(self, file: str, precision: str) -> tuple[Prior]:
        """Read the file and recognise it."""
        path = BUILT_IN if file == BUILT_IN_NAME else host.model_path(host.PRIOR_FOLDER, file)
        return (load_pixel_prior(path, PRECISIONS[precision]),)


class MultiResolution:
    """DIFFUSION_PRIOR -> the same at several resolutions."""

    DESCRIPTION = (
        "Makes the sampler work on a small picture first: early steps only decide coarse "
        "structure, so with 3 levels they run at 1/4 and 1/2 of the size (SubDAPS++). Without "
        "this node a sampler runs at one resolution, which is plain DAPS."
    )
    SEARCH_ALIASES = ("dynamic resolution", "SubDAPS", "pyramid", "coarse to fine")
    CATEGORY = CATEGORY
    FUNCTION = "wrap"
    RETURN_TYPES = ("DIFFUSION_PRIOR",)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The prior, with the resolutions that samplers shall use.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "The prior to use at several resolutions."),
                "levels": (
                    "INT",
                    {
                        "default": 3,
                        "min": 1,
                        "max": 4,
                        "tooltip": "Number of resolutions: 1 is full size only, 3 is 1/4, 1/2 and "
                        "full size (the paper's), 4 starts at 1/8.",
                    },
                ),
                "switch_points": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Where the resolution doubles, as fractions of the run, such as "
                        "'0.33, 0.67' for 3 levels. Empty divides the run evenly, as the paper "
                        "does.",
                    },
                ),
            }
        }

    def wrap(self, prior: Prior, levels: int, switch_points: str) -> tuple[Prior]:
        """Attach the resolutions."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        if switch_points.strip():
            points = read_fractions(switch_points)
        else:
            points = tuple(k / levels for k in range(1, levels))
        factors = tuple(2**k for k in reversed(range(levels)))
        return (MultiResolutionPrior(prior, factors, points),)


def read_fractions(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises `ValueError` for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"switch_points is {text!r}; write fractions between commas, such as 0.33, 0.67."
        ) from None
