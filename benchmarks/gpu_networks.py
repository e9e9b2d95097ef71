"""Networks of published sizes with random weights, made where they run, for `gpu.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pack  # noqa: F401  (makes `undegrade` importable)
import torch

from undegrade.models.discrete import DiscretePrior
from undegrade.models.latent import SD_SCALE, AutoencoderCodec, PromptedNetwork
from undegrade.models.noise_predictor import NoisePredictor, NoisePredictorNetwork, Sizes
from undegrade.models.noise_table import stable_diffusion_sigmas, vp_sigmas
from undegrade.models.prior import PriorSpec

WIDTHS = (1, 1, 2, 2, 4, 4)  # of the published FFHQ network, in multiples of 128
SMALL = 64  # channels below which all networks are small, for a test on the CPU


def made(
    make: Callable[[], torch.nn.Module], device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """The network on the device, ready to be asked."""
    with torch.device(device):
        network = make()
    torch.nn.Module.to(network, dtype)  # diffusers' own warns
    return network.requires_grad_(False).eval()


def ffhq_size(channels: int, device: torch.device, dtype: torch.dtype) -> DiscretePrior:
    """The published FFHQ prior's size with 128 channels (93.6 M)."""
    from diffusers import UNet2DModel  # pyright: ignore[reportPrivateImportUsage]

    down = ["ResnetDownsampleBlock2D"] * 4 + ["AttnDownBlock2D", "ResnetDownsampleBlock2D"]
    up = ["ResnetUpsampleBlock2D", "AttnUpBlock2D"] + ["ResnetUpsampleBlock2D"] * 4
    network = made(
        lambda: UNet2DModel(
            block_out_channels=tuple(channels * width for width in WIDTHS),
            layers_per_block=1,
            down_block_types=tuple(down),
            up_block_types=tuple(up),
            attention_head_dim=min(64, channels),
            resnet_time_scale_shift="scale_shift",
        ),
        device,
        dtype,
    )
    sigmas = vp_sigmas(torch.float32)
    spec = PriorSpec(
        multiple_of=32, sigma_min=sigmas[0].item(), sigma_max=sigmas[-1].item(), sigmas=sigmas,
        trained_factors=(1, 2, 4), name="FFHQ size",
    )  # fmt: skip
    return DiscretePrior(network, spec)


def sd_turbo_size(
    channels: int, device: torch.device, dtype: torch.dtype
) -> tuple[DiscretePrior, NoisePredictor]:
    """SD-Turbo's UNet (866 M with 128 channels) and autoencoder, and InvSR's predictor."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    whole = channels >= SMALL
    wide = (320, 640, 1280, 1280) if whole else (32, 32, 64, 64)
    text = 1024 if whole else 32
    unet = made(
        lambda: UNet2DConditionModel(
            sample_size=64, block_out_channels=wide, cross_attention_dim=text,
            attention_head_dim=(5, 10, 20, 20) if whole else 4, use_linear_projection=True,
            layers_per_block=2 if whole else 1,
        ),
        device, dtype,
    )  # fmt: skip
    vae = made(
        lambda: AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,  # type: ignore[arg-type]
            up_block_types=("UpDecoderBlock2D",) * 4,  # type: ignore[arg-type]
            block_out_channels=(128, 256, 512, 512) if whole else (32, 32, 32, 32),  # type: ignore[arg-type]
            layers_per_block=2 if whole else 1,
        ),
        device, torch.float32,
    )  # fmt: skip
    sizes = Sizes() if whole else Sizes((64, 128), (1, 1), 64, 128, 64)
    predictor = made(lambda: NoisePredictorNetwork(sizes), device, dtype)
    prompt = torch.zeros(1, 77, text, device=device, dtype=dtype)
    network: Any = PromptedNetwork(unet, prompt, prompt, 1.0).requires_grad_(False).eval()
    sigmas = stable_diffusion_sigmas()
    spec = PriorSpec(4, 8, 512, sigmas[0].item(), sigmas[-1].item(), sigmas, name="SD-Turbo size")
    codec = AutoencoderCodec(vae, 8, 4, SD_SCALE)
    prior = DiscretePrior(network, spec, "epsilon", None, codec)
    return prior, NoisePredictor(predictor, "InvSR's size")  # type: ignore[arg-type]
