"""Noise of cameras out, detail in."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...models.prior import Prior
from ...pipelines.photograph.denoising import denoised, report
from ...pipelines.photograph.noise_curve import NoiseModel, noise_of
from ..comfyui import host
from ..images import given, to_image, to_pixels
from ..watched import WatchedPrior
from ..widgets import expect, socket

CATEGORY = "Undegrade/photographs"


class Denoise:
    """DIFFUSION_PRIOR, IMAGE -> IMAGE, FLOAT, STRING."""

    DESCRIPTION = (
        "Takes the noise out of a photograph. How strong it is, how it grows with brightness and "
        "how blotchy it is in luma and colour is measured from the picture: noise of night shots, "
        "of JPEG files, of demosaiced and enlarged ones. A clean picture is left as it is."
    )
    SEARCH_ALIASES = (
        "denoise",
        "noise reduction",
        "remove noise",
        "grain",
        "ISO",
        "night photo",
        "noisy photo",
        "clean up",
        "降噪",
        "去噪",
        "噪点",
        "颗粒",
    )
    CATEGORY = CATEGORY
    FUNCTION = "denoise"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("IMAGE", "FLOAT", "STRING")
    RETURN_NAMES = ("image", "noise_level", "report")
    OUTPUT_TOOLTIPS = (
        "The picture without its noise, of the same size, in the channels it came with.",
        "Standard deviation of the noise at mid grey, with pixels from -1 to 1; the mean over a "
        "batch, 0 for clean pictures.",
        "What was found, a line for each picture.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        strength = {
            "default": 1.0,
            "min": 0.0,
            "max": 1.0,
            "step": 0.05,
            "tooltip": "Share of the noise that is removed: 1 all of it, 0.8 leaves a fine grain, "
            "0 changes nothing.",
        }
        noise_level = {
            "default": 0.0,
            "min": 0.0,
            "max": 2.0,
            "step": 0.005,
            "round": False,
            "tooltip": "0 measures the noise. Otherwise its standard deviation at mid grey, with "
            "pixels from -1 to 1: raise it where noise is left, lower it where texture is lost. "
            "Its kind is measured still.",
        }
        passes = {
            "default": 4,
            "min": 1,
            "max": 64,
            "tooltip": "Network calls for each picture, turned and mirrored. 1 is fastest; more "
            "come a little nearer the truth, for blotchy noise most.",
        }
        return {
            "required": {
                "prior": socket(
                    "DIFFUSION_PRIOR",
                    "A pixel prior. Put Tiled Prior around it for pictures of several megapixels.",
                ),
                "image": socket("IMAGE", "The noisy picture: grey, RGB or RGBA, 32x32 or more."),
                "strength": ("FLOAT", strength),
                "noise_level": ("FLOAT", noise_level),
                "passes": ("INT", passes),
            }
        }

    def denoise(
        self, prior: Prior, image: Tensor, strength: float, noise_level: float, passes: int
    ) -> dict[str, Any]:
        """Every picture by itself; what was found is also shown."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        pixels, layout = to_pixels(image)
        models = [noise_of(picture) for picture in pixels]
        said = [report(model, noise_level) for model in models]
        found = sum(model.at(0.0) for model in models) / len(models)
        if noise_level:
            models = [model.of_level(noise_level) for model in models]
        if len(said) > 1:
            said = [f"picture {b + 1}: {line}" for b, line in enumerate(said)]
        noisy = [b for b, model in enumerate(models) if model.level and strength]
        result = given(image)
        if noisy:
            clean = to_image(run(prior, pixels, models, noisy, strength, passes), layout)
            result = result.clone()
            result[noisy] = clean[noisy]
        return {"ui": {"text": said}, "result": (result, found, "\n".join(said))}


def run(
    prior: Prior,
    pixels: Tensor,
    models: list[NoiseModel],
    noisy: list[int],
    strength: float,
    passes: int,
) -> Tensor:
    """y + strength (x0_hat - y) of the noisy pictures, and the others."""
    done = pixels.clone()
    progress = host.Progress(passes * len(noisy), "Denoise")
    with host.running(prior) as device:
        watched = WatchedPrior(prior, progress)
        for b in noisy:
            y = pixels[b].to(device)
            x0_hat = denoised(watched, y, models[b], passes)
            done[b] = (y + strength * (x0_hat - y)).to(pixels.device)
    return done
