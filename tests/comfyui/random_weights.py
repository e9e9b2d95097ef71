"""Writes random weights under the names and in the layouts of the published files, so that every
shipped workflow can run.

usage: python random_weights.py COMFYUI_FOLDER PACK_FOLDER MODELS_FOLDER

Sizes are the published ones but for the UNet, which has Stable Diffusion 2.1's levels, blocks and
attention with 320 channels throughout (StableSR's module accordingly), and the folder in diffusers'
layout, which is tiny.
"""

# ruff: noqa: E402, I001, TID251
import json
import math
import sys
from pathlib import Path

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.ops
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from safetensors.torch import save_file

MODELS = Path(small.WORK)
sys.path.insert(0, small.PACK + "/tests")
import diffusers_folders
import stablesr_modules

STABLESR = "stablesr_webui_sd-v2-1-512-ema-000117.ckpt"
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 1, 1, 1],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3, "use_spatial_transformer": True,
    "use_linear_in_transformer": True, "context_dim": 1024, "num_head_channels": 64,
    "num_heads": -1, "legacy": False,
}  # fmt: skip
VAE = {
    "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
    "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0,
}  # fmt: skip


def drawn(shapes: dict, seed: int) -> dict:
    """Weights that keep the size of what passes, gains of 1 and biases of 0."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for key, shape in shapes.items():
        if len(shape) > 1:
            scale = 0.02 if "embedding" in key else 0.7 / math.sqrt(math.prod(shape[1:]))
            tensors[key] = torch.randn(shape, generator=generator) * scale
        else:
            tensors[key] = torch.full(shape, float("bias" not in key))
    return tensors


def shapes_of(network, prefix: str = "") -> dict:
    return {prefix + key: tuple(value.shape) for key, value in network.state_dict().items()}


def text_encoder() -> dict:
    """OpenCLIP's ViT-H under its own names, as in Stable Diffusion 2's files."""
    layers, width, name = 24, 1024, "cond_stage_model.model."
    shapes = {
        "positional_embedding": (77, width), "token_embedding.weight": (49408, width),
        "text_projection": (width, width), "ln_final.weight": (width,), "ln_final.bias": (width,),
    }  # fmt: skip
    for k in range(layers):
        block = f"transformer.resblocks.{k}."
        parts = {"attn.out_proj": (width, width), "mlp.c_fc": (4 * width, width),
                 "mlp.c_proj": (width, 4 * width)}  # fmt: skip
        shapes |= {f"{block}attn.in_proj_weight": (3 * width, width)}
        shapes |= {f"{block}attn.in_proj_bias": (3 * width,)}
        shapes |= {f"{block}{norm}.{kind}": (width,)
                   for norm in ("ln_1", "ln_2") for kind in ("weight", "bias")}  # fmt: skip
        for part, shape in parts.items():
            shapes |= {f"{block}{part}.weight": shape, f"{block}{part}.bias": shape[:1]}
    return {name + key: shape for key, shape in shapes.items()}


def checkpoints() -> None:
    """One file of Stable Diffusion 2.1, under both names."""
    with torch.device("meta"):
        unet = UNetModel(**UNET, dtype=torch.float32, operations=comfy.ops.disable_weight_init)
        vae = AutoencoderKL(embed_dim=4, ddconfig=VAE)
    shapes = shapes_of(unet, "model.diffusion_model.") | shapes_of(vae, "first_stage_model.")
    tensors = {k: v.half() for k, v in drawn(shapes | text_encoder(), 0).items()}
    folder = MODELS / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "sd_turbo.safetensors")
    (folder / "v2-1_512-ema-pruned.safetensors").symlink_to("sd_turbo.safetensors")


def save(tensors: dict, folder: str, name: str) -> None:
    (MODELS / folder).mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": tensors}, MODELS / folder / name)


def networks_of_the_pack() -> None:
    """The blur network, InvSR's noise predictor, a StableSR module and an injection for it."""
    small.pack()
    from undegrade.models import feature_injection, kernel_embedding, noise_predictor
    from undegrade.models.stablesr import read_module
    from undegrade.nodes.regions.injection import FOLDER, WRITTEN

    with torch.device("meta"):
        blur = kernel_embedding.KernelWizard()
        predictor = noise_predictor.NoisePredictorNetwork(noise_predictor.Sizes())
    official = {ours: theirs for theirs, ours in kernel_embedding.official_names(10, 20).items()}
    named = {f"{official[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": shape
             for key, shape in shapes_of(blur).items()}  # fmt: skip
    save(drawn(named, 1), "blur_networks", "GOPRO_wVAE.pth")
    inner = shapes_of(predictor, noise_predictor.PREFIX)
    save(drawn(inner, 2), "invsr", "noise_predictor_sd_turbo_v5.pth")
    stablesr_modules.MULTIPLES = (1, 1, 1, 1)  # those of our UNet
    module = stablesr_modules.tensors(unet=320, width=256)
    save(module, "stablesr", STABLESR)
    prints = feature_injection.fingerprints(read_module(MODELS / "stablesr" / STABLESR))
    phi = drawn(shapes_of(feature_injection.StructInjection(256, 4)), 3)
    (MODELS / FOLDER).mkdir()
    known = {"module": STABLESR, "prints": json.dumps(prints)}
    save_file(phi, MODELS / FOLDER / WRITTEN, known)


def main() -> None:
    checkpoints()
    networks_of_the_pack()
    folder = MODELS / "diffusers" / "sd-turbo"
    diffusers_folders.latent_folder(folder)
    diffusers_folders.clip_encoder(folder)


if __name__ == "__main__":
    main()
