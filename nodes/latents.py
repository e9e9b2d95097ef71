"""LATENT <-> pictures, through the codec of a prior.

ComfyUI's LATENT is {"samples": (B, C, h, w), ..}. For a pixel prior its samples are the
picture, 3 channels in [-1, 1]; for a latent prior they are what ComfyUI's VAE gives, before the
model's own scaling (`LatentCodec`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..models.codec import Codec, LatentCodec, preview
from ..models.prior import Prior
from ..pipelines.level import canvas_size, picture
from ..pipelines.operators.canvas import pad_reflect, upsample
from ..pipelines.step import Step
from .comfyui import host
from .images import Layout, to_image, to_pixels
from .widgets import expect, socket

PICTURE = "undegrade_picture"  # key of a LATENT under which its `Picture` travels


@dataclass(frozen=True, eq=False)
class Picture:
    """How a picture came: its layout, and its size in pixels before it was padded for the codec."""

    layout: Layout
    height: int
    width: int


class DecodeWithPrior:
    """LATENT, DIFFUSION_PRIOR -> IMAGE."""

    DESCRIPTION = (
        "Turns the latents of a prior into pictures, with the prior's own decoder. For a pixel "
        "prior the latents are the picture; ComfyUI's VAE Decode does not know that."
    )
    SEARCH_ALIASES = ("VAE decode", "latent to image", "pixel latent")
    CATEGORY = "Undegrade/regions"
    FUNCTION = "decode"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The pictures, in the size, channels and alpha that they were split with.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "latent": socket("LATENT", "Such as Tile Stitcher gives, of the prior's kind."),
                "prior": socket("DIFFUSION_PRIOR", "The prior whose latents these are."),
            }
        }

    def decode(self, latent: dict[str, Any], prior: Prior) -> tuple[Tensor]:
        """One picture at a time."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        samples = read_latent(latent, prior)
        codec, decoded = prior.codec, []
        with host.running(prior) as device:
            for sample in samples.split(1):
                host.check_interrupted()
                z = sample.to(device)
                z = codec.process_latent_in(z) if isinstance(codec, LatentCodec) else z
                decoded.append(codec.decode(z).float().cpu())
        pixels, came = torch.cat(decoded), latent.get(PICTURE)
        if came is None:
            return (to_image(pixels),)
        if pixels.shape[-2:] == canvas_size((came.height, came.width), codec.factor):
            pixels = pixels[..., : came.height, : came.width]
        return (to_image(pixels, came.layout),)


def encode(image: Tensor, prior: Prior) -> tuple[Tensor, Picture]:
    """IMAGE -> (the samples of a LATENT, how the picture came).

    The picture is continued by reflection to a multiple of `codec.factor`. Samples are on the CPU.
    """
    pixels, layout = to_pixels(image)
    height, width = pixels.shape[-2:]
    codec, encoded = prior.codec, []
    padded = pad_reflect(pixels, *canvas_size((height, width), codec.factor))
    with host.running(prior) as device:
        for sample in padded.split(1):
            host.check_interrupted()
            z = codec.encode(sample.to(device))
            z = codec.process_latent_out(z) if isinstance(codec, LatentCodec) else z
            encoded.append(z.float().cpu())
    return torch.cat(encoded), Picture(layout, height, width)


def read_latent(latent: Any, prior: Prior, name: str = "latent") -> Tensor:
    """The samples of a LATENT of this prior's kind, (B, C, h, w) float32.

    Raises `TypeError` for what is no LATENT, `ValueError` for another shape, a noise mask, or NaN
    and infinite values.
    """
    if not (isinstance(latent, dict) and isinstance(latent.get("samples"), Tensor)):
        raise TypeError(f"{name} is a {type(latent).__name__}; connect a LATENT.")
    samples, channels = latent["samples"], prior.spec.channels
    if samples.ndim != 4 or samples.shape[1] != channels or 0 in samples.shape:
        raise ValueError(
            f"{name} has shape {tuple(samples.shape)}; the prior {prior.spec.name} needs (batch, "
            f"{channels}, height, width)."
        )
    if "noise_mask" in latent:
        raise ValueError(f"{name} has a noise mask, which is not supported here; take it off.")
    if not torch.isfinite(samples).all():
        raise ValueError(f"{name} has NaN or infinite values; look at where it comes from.")
    return samples.float()


def glimpse(step: Step, codec: Codec, side: int = host.PREVIEW_SIDE) -> Tensor:
    """The first picture of a step while the run goes on, enlarged; a latent is not decoded.

    Thinned out to sides of about `side` pixels: ComfyUI shows no more of it, and a whole large one
    would take the host longer than a step.
    """
    shown = full_size(preview(codec, step.x0_hat[:1]), step, codec.factor)
    every = max(1, max(shown.shape[-2:]) // side)
    return shown[..., ::every, ::every]


def full_size(x: Tensor, step: Step, factor: int = 1) -> Tensor:
    """A step's picture, reduced `factor` times more, enlarged to the canvas and cropped."""
    return picture(upsample(x, factor * step.factor), step.size)
