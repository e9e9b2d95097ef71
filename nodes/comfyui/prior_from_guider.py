"""Nodes between ComfyUI's own models and the pack's priors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.codec import IDENTITY, Codec
from ...models.prior import Prior, PriorSpec
from ..widgets import socket
from .guider_prior import GuiderPrior, available
from .model_weights import Residency
from .vae_codec import VAECodec

CATEGORY = "Undegrade/priors"
LEVELS = (0.01, 100.0)  # of a model with continuous levels, and the largest of any: see `levels_of`
CONNECT_GUIDER = "connect CFGGuider or BasicGuider"


class PriorFromGuider:
    """GUIDER, VAE -> DIFFUSION_PRIOR."""

    DESCRIPTION = (
        "Makes a prior of any image model in ComfyUI: the GUIDER brings the model with its LoRAs, "
        "ControlNets, conditioning and CFG. Connect the model's own VAE; a pixel-space model needs "
        "none. With a latent model the measurement is taken through the decoder (LatentDAPS), "
        "which costs far more than the model itself: 4.5 decoder passes for each step of CG "
        "Measurement Update."
    )
    SEARCH_ALIASES = (
        "Stable Diffusion",
        "SDXL",
        "Flux",
        "latent prior",
        "LatentDAPS",
        "CFG",
        "LoRA",
        "ControlNet",
    )
    CATEGORY = CATEGORY
    FUNCTION = "wrap"
    RETURN_TYPES = ("DIFFUSION_PRIOR",)
    RETURN_NAMES = ("prior",)
    OUTPUT_TOOLTIPS = ("The model as a denoiser, for any node that takes a prior.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The sockets."""
        return {
            "required": {
                "guider": socket(
                    "GUIDER",
                    "The model with its conditioning, from BasicGuider, CFGGuider or another "
                    "guider. Each CFG above 1 doubles the model's work.",
                )
            },
            "optional": {
                "vae": socket(
                    "VAE",
                    "The model's own VAE; leave it off for a pixel-space model. A small one such "
                    "as TAESD makes the measurement update several times faster.",
                )
            },
        }

    def wrap(self, guider: Any, vae: Any = None) -> tuple[Prior]:
        """The prior; nothing is loaded before it runs."""
        if not available():
            raise RuntimeError(
                "Prior From Guider works inside ComfyUI only; choose Load Pixel Prior or Load "
                "Diffusers Prior elsewhere."
            )
        patcher = getattr(guider, "model_patcher", None)
        if patcher is None or not hasattr(guider, "original_conds") or not callable(guider):
            raise TypeError(f"guider is of type {type(guider).__name__}; {CONNECT_GUIDER}.")
        config, latents = patcher.model.model_config, patcher.get_model_object("latent_format")
        name, residency = type(config).__name__, Residency()
        if latents.latent_dimensions != 2:
            raise ValueError(
                f"The model {name} makes videos, sound or shapes, with latents of "
                f"{latents.latent_dimensions} dimensions; choose a model of pictures."
            )
        codec = codec_for(name, latents, vae, residency)
        sigmas, low, high, flow = levels_of(name, patcher.get_model_object("model_sampling"))
        spec = PriorSpec(
            channels=latents.latent_channels,
            multiple_of=multiple_of(config.unet_config),
            native_size=native_size(config.unet_config),
            sigma_min=low,
            sigma_max=high,
            sigmas=sigmas,
            name=name,
        )
        return (GuiderPrior(guider, spec, codec, flow, residency),)


def levels_of(name: str, sampling: Any) -> tuple[Tensor | None, float, float, bool]:
    """(sigmas, sigma_min, sigma_max, flow) in the convention x = x0 + sigma n.

    The model's convention is asked of its `noise_scaling`: a sigma n + b x0 has b = 1 for eps, v
    and EDM models and b = 1 - sigma for flow models, whose sigma / (1 - sigma) is ours. A network
    with a table of time steps gives its table, up to 100; others are continuous and are used from
    0.01 (or their own smallest) to 100, where 1 % of the state is picture.
    Raises `ValueError` for any other convention.
    """
    table = sampling.sigmas.detach().float().cpu().sort().values
    probe = table[[0, len(table) // 2, -1]]
    picture = [coefficient(sampling, level, False) for level in probe]
    noise = [coefficient(sampling, level, True) for level in probe]
    plain = torch.allclose(torch.tensor(picture), torch.ones(3), rtol=1e-5, atol=1e-6)
    flow = torch.allclose(torch.tensor(picture), 1 - probe, rtol=1e-5, atol=1e-6)
    if not torch.allclose(torch.tensor(noise), probe, rtol=1e-5) or plain == flow:
        raise ValueError(
            f"The model {name} mixes picture and noise in a way of its own; choose an "
            "eps, v, EDM or flow model."
        )
    if flow:
        table = table[table < 1] / (1 - table[table < 1])
    high = table[table <= LEVELS[1]].max().item()
    if flow or not hasattr(sampling, "num_timesteps"):
        return None, max(table[0].item(), LEVELS[0]), high, flow
    return table[table <= LEVELS[1]], table[0].item(), high, flow


def coefficient(sampling: Any, level: Tensor, of_noise: bool) -> float:
    """The weight of the noise, or of the picture, in the model's noisy state."""
    noise, latent = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    (noise if of_noise else latent).fill_(1)
    return sampling.noise_scaling(level.reshape(1), noise, latent, False).item()


def multiple_of(config: dict[str, Any]) -> int:
    """Of a latent's sides: 2^(levels - 1) of a UNet, a transformer's patch, 8 where unknown."""
    if "channel_mult" in config:
        return 2 ** (len(config["channel_mult"]) - 1)
    patch = config.get("patch_size", 2 if "image_model" in config else 8)
    return patch if isinstance(patch, int) else max(patch)


def native_size(config: dict[str, Any]) -> int:
    """Side in pixels of a training picture: 512 of the first UNets, else 1024.

    A configuration does not say it: SD 1 and 2 are UNets without SDXL's size conditioning. Models
    of SD 2 for 768 pixels have the same configuration as those for 512.
    """
    unet = "channel_mult" in config or "model_channels" in config
    return 512 if unet and not config.get("adm_in_channels") else 1024


def codec_for(name: str, latents: Any, vae: Any, residency: Residency) -> Codec:
    """Identity for a pixel-space model, else the VAE's. latents: the model's latent format.

    Raises `TypeError` for what is no VAE, `ValueError` where none came, or another model's.
    """
    channels = latents.latent_channels
    if vae is None or getattr(vae, "downscale_ratio", None) == 1:
        probe = torch.linspace(-1, 1, 3).expand(1, channels, 1, 3)
        if channels != 3 or not torch.equal(latents.process_in(probe), probe):
            raise ValueError(
                f"The model {name} works on latents of {channels} channels; connect its "
                "VAE."
            )
        return IDENTITY
    if not hasattr(vae, "spacial_compression_decode"):
        raise TypeError(f"vae is of type {type(vae).__name__}; connect the model's VAE.")
    if getattr(vae, "first_stage_model", None) is None:
        raise ValueError("The VAE is empty: its checkpoint holds none; load one with Load VAE.")
    if vae.latent_dim != 2 or vae.latent_channels != channels:
        raise ValueError(
            f"The VAE makes latents of {vae.latent_channels} channels in {vae.latent_dim} "
            f"dimensions, but the model {name} needs {channels} in 2; connect the "
            "model's own VAE."
        )
    factor = vae.spacial_compression_decode()
    if factor != vae.spacial_compression_encode():
        raise ValueError(
            f"The VAE enlarges by {factor} but reduces by {vae.spacial_compression_encode()}; "
            "choose one whose decoder undoes its encoder."
        )
    return VAECodec(vae, latents, int(factor), range_of(vae), residency)


def range_of(vae: Any) -> tuple[float, float]:
    """(a, b) that take what the autoencoder works on to [-1, 1]: 1, 0 for most, 2, -1 for [0, 1].

    Raises `ValueError` where its `process_input` is not linear or `process_output` not its inverse.
    """
    pixels = torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3).expand(1, 3, 1, 3)
    inside = vae.process_input(pixels)
    low, middle, high = inside[0, 0, 0].tolist()
    back = vae.process_output(inside.clone())
    if high == low or abs(middle - (low + high) / 2) > 1e-6 or (back - pixels).abs().max() > 1e-6:
        raise ValueError("The VAE scales its pixels in an unknown way; connect a VAE of pictures.")
    a = 2 / (high - low)
    return a, -1 - a * low
