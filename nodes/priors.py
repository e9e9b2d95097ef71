"""Prior nodes: what pictures look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..models.download import download
from ..models.known_files import DIFFUSERS, known_in
from ..models.latent import load_diffusers_prior
from ..models.pixel import PixelPrior, suit
from ..models.prior import MultiResolutionPrior, Prior
from ..models.registry import BUILT_IN, load_pixel_prior
from .comfyui import host
from .comfyui.model_patches import refuse_bound_prior
from .precision import PRECISION, dtype_of
from .widgets import expect, socket

CATEGORY = "Undegrade/priors"
BUILT_IN_NAME = "built-in"

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
        tooltip = "'built-in', or a file or diffusers folder in models/diffusion_priors."
        return {
            "required": {"file": (pixel_priors(), {"tooltip": tooltip}), "precision": PRECISION}
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("file", file, pixel_priors(), host.PRIOR_FOLDER)

    def load(self, file: str, precision: str) -> tuple[Prior]:
        """Read the file and recognise it."""
        path = BUILT_IN if file == BUILT_IN_NAME else host.model_path(host.PRIOR_FOLDER, file)
        prior = load_pixel_prior(path, dtype_of(precision))
        if isinstance(prior, PixelPrior):
            suit(prior.network, host.device())
        return (prior,)


def pixel_priors() -> list[str]:
    """What Load Pixel Prior offers: files, and folders instead of the files in them."""
    folders = host.diffusers_folders(host.PRIOR_FOLDER)
    files = [
        file
        for file in host.model_files(host.PRIOR_FOLDER)
        if not any(parent.as_posix() in folders for parent in Path(file).parents)
    ]
    return [BUILT_IN_NAME, *files, *folders]


class LoadDiffusersPrior:
    """Folder and texts -> DIFFUSION_PRIOR."""

    DESCRIPTION = (
        "Loads a diffusion prior from a folder in diffusers' layout in models/diffusers: a pixel "
        "model (DDPM), or a latent one with a prompt (SD-Turbo, Stable Diffusion 2.1 and 1.5). "
        "Nothing is downloaded unless 'download' is on. See the help for the licences."
    )
    SEARCH_ALIASES = ("SD-Turbo", "Stable Diffusion", "latent diffusion", "DDPM", "load model")
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("DIFFUSION_PRIOR",)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The denoiser that a sampler asks what the picture may look like.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        text = {"default": "", "multiline": True}
        prompt = "What the picture shows. Latent models only; empty for pixel models."
        negative = "What it shall not look like. Used where cfg_scale is not 1; latent models only."
        guidance = {
            "default": 1.0,
            "min": 1.0,
            "max": 30.0,
            "step": 0.1,
            "tooltip": "How much more the prompt counts than the negative prompt. 1 is no "
            "guidance, right for SD-Turbo; above 1 every step costs twice as much.",
        }
        download = {
            "default": False,
            "tooltip": "Fetch a published folder that is not there yet (SD-Turbo: 5 GB) from "
            "Hugging Face: one fixed revision, safetensors only, every file verified. Off, nothing "
            "is ever downloaded.",
        }
        return {
            "required": {
                "folder": (diffusers_priors(), {"tooltip": "A folder in models/diffusers."}),
                "prompt": ("STRING", {**text, "tooltip": prompt}),
                "negative_prompt": ("STRING", {**text, "tooltip": negative}),
                "cfg_scale": ("FLOAT", guidance),
                "precision": PRECISION,
                "download": ("BOOLEAN", download),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, folder: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("folder", folder, diffusers_priors(), DIFFUSERS)

    def load(
        self,
        folder: str,
        prompt: str,
        negative_prompt: str,
        cfg_scale: float,
        precision: str,
        download: bool,
    ) -> tuple[Prior]:
        """Fetch the folder where asked to, and read it."""
        path = published_folder(folder, download)
        dtype = dtype_of(precision)
        return (load_diffusers_prior(path, prompt, negative_prompt, cfg_scale, dtype),)


def diffusers_priors() -> list[str]:
    """What Load Diffusers Prior offers: the user's folders, and published ones by their names."""
    return list(dict.fromkeys([*host.diffusers_folders(DIFFUSERS), *known_in(DIFFUSERS)]))


def published_folder(name: str, wanted: bool) -> Path:
    """The path of a folder; where it is published, wanted and not there yet, downloaded first.

    Raises `FileNotFoundError` for a published folder that is not there and not wanted, and the
    errors of `models.download`.
    """
    known, path = known_in(DIFFUSERS).get(name), host.folder_path(DIFFUSERS, name)
    if not known or path.is_dir():
        return path
    if not wanted:
        raise FileNotFoundError(
            f"{name} is not in models/diffusers; switch download on, or bring {known.url} at "
            f"revision {known.revision} to {path}."
        )
    progress = None
    for done, total in download(known, path):
        progress = progress or host.Progress(total, f"Downloading {name}")
        host.check_interrupted()
        if done:
            progress.advance()
    return path


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
    HAS_INTERMEDIATE_OUTPUT = True
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

    def wrap(self, prior: Prior, levels: int, switch_points: str) -> dict[str, Any]:
        """Attach the resolutions; in words where the network does not know one of them."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        if levels > 1:
            refuse_bound_prior(prior, "smaller ones")
        if switch_points.strip():
            points = read_fractions(switch_points)
        else:
            points = tuple(k / levels for k in range(1, levels))
        factors = tuple(2**k for k in reversed(range(levels)))
        result = (MultiResolutionPrior(prior, factors, points),)
        return {"ui": {"text": untrained(prior, factors)}, "result": result}


def untrained(prior: Prior, factors: tuple[int, ...]) -> list[str]:
    """A sentence where a prior shall work on reduced pictures, of which it was trained on none."""
    unknown = [f"1/{f}" for f in factors if f not in prior.spec.trained_factors]
    if not unknown:
        return []
    return [
        f"{prior.spec.name} was not trained for pictures at {' and '.join(unknown)} of their size: "
        "its early steps may go astray. Set levels to 1 if the result is worse."
    ]


def read_fractions(text: str) -> tuple[float, ...]:
    """Numbers between commas. Raises `ValueError` for anything else."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"switch_points is {text!r}; write fractions between commas, such as 0.33, 0.67."
        ) from None
