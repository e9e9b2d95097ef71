"""InvSR from stock nodes: the noise predictor, its NOISE, and the SIGMAS."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.known_files import PREDICTORS
from ...models.noise_predictor import NoisePredictor
from ...models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from ...pipelines.invsr.start_noise import SMALLEST, StartNoise, StartNoiseOptions, check_start
from ...pipelines.invsr.steps import InversionSteps, warning
from ..comfyui import host
from ..images import to_pixels
from ..precision import AUTO, PRECISIONS, dtype_of
from ..priors import BUILT_IN_NAME
from ..published import published_files, published_path
from ..widgets import expect, seed, socket, widgets_of
from .noise_levels import eps_sampling, start_of
from .predicted_noise import PredictedNoise

CATEGORY = "Undegrade/inversion"
MODEL_TOOLTIP = "SD-Turbo, or another Stable Diffusion model that predicts the noise (eps)."

host.register_folder(PREDICTORS)
FILE_TOOLTIP = (
    "A noise predictor in models/invsr. The published ones are for non-commercial use (S-Lab "
    "License 1.0)."
)


class LoadNoisePredictor:
    """Weight file -> NOISE_PREDICTOR."""

    DESCRIPTION = (
        "Loads the network that predicts the noise an inversion starts from (InvSR). Put "
        "noise_predictor_sd_turbo_v5.pth or its diftune version, for SD-Turbo, into models/invsr."
    )
    SEARCH_ALIASES = ("InvSR", "super-resolution", "diffusion inversion", "upscale", "load model")
    CATEGORY = CATEGORY
    FUNCTION = "load"
    RETURN_TYPES = ("NOISE_PREDICTOR",)
    RETURN_NAMES = ("predictor",)
    OUTPUT_TOOLTIPS = ("Predicts the noise an inversion starts from.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        precision = {
            "default": "float32",
            "tooltip": "Number format of the network's weights and activations; its maps are "
            "float32. bfloat16 or float16 halve memory and time on a GPU, at a small difference in "
            "the noise. 'auto' is float16 where the GPU is quicker with it, otherwise float32.",
        }
        return {
            "required": {
                "file": (predictor_files(), {"tooltip": FILE_TOOLTIP}),
                "precision": ([*PRECISIONS, AUTO], precision),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("file", file, predictor_files(), PREDICTORS)

    def load(self, file: str, precision: str) -> tuple[StartNoise]:
        """Read the file and recognise it."""
        built_in = file == BUILT_IN_NAME
        path = BUILT_IN_PREDICTOR if built_in else published_path(PREDICTORS, file)
        return (load_noise_predictor(path, dtype_of(precision)),)


def predictor_files() -> list[str]:
    """What Load Noise Predictor offers: the built-in one, the user's files, and published ones by
    their names."""
    built_in = [BUILT_IN_NAME] if BUILT_IN_PREDICTOR.is_file() else []
    return list(dict.fromkeys([*built_in, *published_files(PREDICTORS)]))


class PredictedNoiseNode:
    """NOISE_PREDICTOR, IMAGE, MODEL, SIGMAS -> NOISE."""

    DESCRIPTION = (
        "The starting noise of an InvSR super-resolution, for the stock SamplerCustomAdvanced with "
        "the euler sampler: predicted from the small picture for the first of the SIGMAS. The "
        "latent must be the VAE encoding of the picture enlarged 4 times (bicubic)."
    )
    SEARCH_ALIASES = ("InvSR", "super-resolution", "diffusion inversion", "upscale", "noise")
    CATEGORY = CATEGORY
    FUNCTION = "predict"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("NOISE",)
    RETURN_NAMES = ("noise",)
    OUTPUT_TOOLTIPS = ("The noise, drawn when the sampler asks for it.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        drawn = seed(
            "Random seed; latent b of a batch uses seed + b. The same seed gives the same noise."
        )
        return {
            "required": {
                "predictor": socket("NOISE_PREDICTOR", "Load Noise Predictor's, for this MODEL."),
                "image": socket("IMAGE", "The small picture, before it is enlarged."),
                "model": socket("MODEL", f"{MODEL_TOOLTIP} The one the sampler uses."),
                "sigmas": socket("SIGMAS", "Inversion Sigmas, the ones the sampler uses."),
                "seed": drawn,
                **widgets_of(StartNoiseOptions),
            }
        }

    def predict(
        self,
        predictor: NoisePredictor,
        image: Tensor,
        model: Any,
        sigmas: Tensor,
        seed: int,
        **options: Any,
    ) -> dict[str, Any]:
        """Check what can be checked now; the network runs when the sampler asks."""
        chosen = StartNoiseOptions(**options)
        expect(
            predictor,
            NoisePredictor,
            "predictor",
            "Load Noise Predictor with a file of InvSR; a predictor for pixels belongs to "
            "Inversion Sampler",
        )
        lr, layout = to_pixels(image)
        if layout.alpha is not None:
            raise ValueError(
                "image has an alpha plane, which the predictor cannot see; take it off with Split "
                "Image with Alpha, and join it again after decoding."
            )
        if min(lr.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"image has {lr.shape[-1]}x{lr.shape[-2]} pixels; give one with sides of at least "
                f"{SMALLEST} pixels."
            )
        start = start_of(sigmas)
        sampling = eps_sampling(model)
        check_start(predictor, start)
        index = int(sampling.timestep(sigmas[:1]).item())
        sigma = float(sampling.sigmas[index])
        said = f"start at timestep {index + 1}, noise level {start:.4f}"
        text = [line for line in (said, warning(index + 1)) if line]
        noise = PredictedNoise(predictor, lr, sigma, seed, chosen)
        return {"ui": {"text": text}, "result": (noise,)}


class InversionSigmas:
    """MODEL -> SIGMAS of a few timesteps."""

    DESCRIPTION = (
        "The noise levels of an InvSR super-resolution in 1 to 5 steps: the published timesteps, "
        "any falling list, or even steps from a start. Starting at 100 keeps fidelity, at 250 "
        "invents detail."
    )
    SEARCH_ALIASES = ("InvSR", "scheduler", "timesteps", "super-resolution", "diffusion inversion")
    CATEGORY = CATEGORY
    FUNCTION = "make"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("SIGMAS", "STRING")
    RETURN_NAMES = ("sigmas", "report")
    OUTPUT_TOOLTIPS = (
        "For Predicted Noise and SamplerCustomAdvanced, which must get the same.",
        "Timesteps and noise levels, and a warning where the start is not one that the predictor "
        "was trained for. Shown on the node too.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {"required": {"model": socket("MODEL", MODEL_TOOLTIP), **widgets_of(InversionSteps)}}

    def make(self, model: Any, **options: Any) -> dict[str, Any]:
        """The MODEL's own noise levels at the timesteps, then 0."""
        times = InversionSteps(**options).times()
        table = eps_sampling(model).sigmas
        sigmas = torch.stack([*(table[t - 1].float().cpu() for t in times), torch.zeros(())])
        levels = ", ".join(f"{t} ({s:.4f})" for t, s in zip(times, sigmas.tolist(), strict=False))
        text = [line for line in (f"timesteps (noise levels): {levels}", warning(times[0])) if line]
        return {"ui": {"text": text}, "result": (sigmas, "\n".join(text))}
