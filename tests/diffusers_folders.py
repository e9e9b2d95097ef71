"""Small seeded networks in diffusers' own layout, saved by diffusers itself."""

import json
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    UNet2DConditionModel,
    UNet2DModel,
)

SIZES = {"block_out_channels": (32, 64), "layers_per_block": 1, "norm_num_groups": 32}
PIXEL = {
    **SIZES,
    "sample_size": 32,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}
LATENT = {
    **SIZES,
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 24,
    "attention_head_dim": 4,
    "use_linear_projection": True,
}
AUTOENCODER = {
    "block_out_channels": (32, 32, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "sample_size": 32,
}
WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "b</w>", "c</w>", "d</w>"]


def seeded(network, seed: int = 5):
    """The network with weights large enough that every part of it counts."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():
        draw = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            parameter.data = draw * parameter[0].numel() ** -0.5
        else:
            parameter.data = 0.2 * draw + name.endswith("weight")
    return network.eval().requires_grad_(False)


def pixel_network(**changes) -> UNet2DModel:
    return seeded(UNet2DModel(**(PIXEL | changes)))


def pixel_folder(folder: Path, scheduler=None, **changes) -> UNet2DModel:
    """A DDPM pipeline's folder; returns its network."""
    network = pixel_network(**changes)
    network.save_pretrained(folder / "unet")
    (scheduler or DDPMScheduler()).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline"}')
    return network


def latent_folder(folder: Path, scheduler=None, **changes):
    """A Stable Diffusion folder, all but the weights of its text encoder; returns its UNet and
    autoencoder."""
    unet = seeded(UNet2DConditionModel(**(LATENT | changes)))
    autoencoder = seeded(AutoencoderKL(**AUTOENCODER), 6)
    unet.save_pretrained(folder / "unet")
    autoencoder.save_pretrained(folder / "vae")
    (scheduler or stable_diffusion_noise()).save_pretrained(folder / "scheduler")
    (folder / "text_encoder").mkdir()
    edit(folder / "text_encoder" / "config.json", architectures=["CLIPTextModel"])
    return unet, autoencoder


def stable_diffusion_noise(**changes) -> DDPMScheduler:
    settings = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDPMScheduler(**(settings | {"clip_sample": False} | changes))


def edit(path: Path, **changes) -> None:
    """Change a configuration; None removes an entry."""
    content = json.loads(path.read_text()) if path.exists() else {}
    content |= changes
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


def clip_encoder(folder: Path, width: int = 24):
    """A tiny text encoder and tokenizer in a Stable Diffusion folder; returns both."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    config = CLIPTextConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=1,
    )
    encoder = seeded(CLIPTextModel(config), 7)
    encoder.save_pretrained(folder / "text_encoder")
    target = folder / "tokenizer"
    target.mkdir(parents=True)
    (target / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (target / "merges.txt").write_text("#version: 0.2\n")
    edit(
        target / "tokenizer_config.json",
        tokenizer_class="CLIPTokenizer",
        model_max_length=8,
        unk_token=WORDS[1],
        bos_token=WORDS[0],
        eos_token=WORDS[1],
        pad_token=WORDS[1],
    )
    return encoder, CLIPTokenizer.from_pretrained(target)
