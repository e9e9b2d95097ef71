"""Runs inside a real ComfyUI: prints as JSON what Prior From Guider does with a small random model.

usage: python guider_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER

On the CPU, unless COMFYUI_DEVICE names a card: there in float32.
"""

# ruff: noqa: E402, TID251
import importlib.util
import json
import math
import os
import sys
from pathlib import Path

COMFYUI, PACK, WORK = sys.argv[1:4]
sys.path.insert(0, COMFYUI)

from comfy.cli_args import args

args.cpu = os.environ.get("COMFYUI_DEVICE", "cpu") == "cpu"  # before comfy.model_management
args.force_fp32, args.fp32_vae = not args.cpu, not args.cpu
DYNAMIC = not args.cpu and (Path(COMFYUI) / "comfy" / "memory_management.py").exists()
if DYNAMIC:
    import comfy_aimdo.control

    comfy_aimdo.control.init()  # before torch

import comfy.ops
import comfy.samplers
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from comfy_extras.nodes_custom_sampler import Guider_Basic, SamplerCustomAdvanced
from comfy_extras.nodes_model_advanced import ModelSamplingSD3
from safetensors.torch import save_file


def turn_dynamic_vram_on() -> None:
    """As main.py does; networks that are made afterwards have no weights until they load some."""
    import comfy.memory_management
    import comfy.model_patcher

    assert comfy_aimdo.control.init_devices([torch.cuda.current_device()])
    comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic
    comfy.memory_management.aimdo_enabled = True


def checkpoint() -> str:
    """A file of Stable Diffusion 2's layout with two levels and a narrow KL autoencoder."""
    unet = UNetModel(
        image_size=32, in_channels=4, out_channels=4, model_channels=320, num_res_blocks=[1, 1],
        channel_mult=[1, 1], transformer_depth=[0, 1], transformer_depth_output=[0, 0, 1, 1],
        transformer_depth_middle=1, use_spatial_transformer=True, use_linear_in_transformer=True,
        context_dim=1024, num_head_channels=64, num_heads=-1, legacy=False, device="meta",
        dtype=torch.float32, operations=comfy.ops.disable_weight_init,
    )
    with torch.device("meta"):
        vae = AutoencoderKL(embed_dim=4, ddconfig={
            "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
            "ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
            "dropout": 0.0,
        })
    generator, tensors = torch.Generator().manual_seed(0), {}
    for prefix, network in (("model.diffusion_model.", unet), ("first_stage_model.", vae)):
        for key, meta in network.state_dict().items():
            flat = torch.full(meta.shape, float("bias" not in key))
            fan_in = math.prod(meta.shape[1:])
            random = torch.randn(meta.shape, generator=generator) * 0.7 / math.sqrt(fan_in)
            tensors[prefix + key] = (random if meta.ndim > 1 else flat).half()
    path = str(Path(WORK) / "random.safetensors")
    save_file(tensors, path)
    return path


def pack():
    """The pack, under its own name."""
    spec = importlib.util.spec_from_file_location(
        "undegrade", Path(PACK) / "__init__.py", submodule_search_locations=[PACK]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["undegrade"] = module
    spec.loader.exec_module(module)
    return module.NODE_CLASS_MAPPINGS


def conditioning(seed: int) -> list:
    return [[torch.randn(1, 77, 1024, generator=torch.Generator().manual_seed(seed)), {}]]


def guider(model, scale: float):
    if scale == 1:
        made = Guider_Basic(model)
        made.set_conds(conditioning(1))
    else:
        made = comfy.samplers.CFGGuider(model)
        made.set_conds(conditioning(1), conditioning(2))
        made.set_cfg(scale)
    return made


def parity(nodes, model, vae, scale: float, sigma: float) -> float:
    """|our x0_hat - the result of one stock Euler step to 0|, relative to the largest value."""
    from undegrade.nodes.comfyui import host

    prior = nodes["UndegradePriorFromGuider"]().wrap(guider(model, scale), vae)[0]
    x = sigma * torch.randn(2, 4, 16, 12, generator=torch.Generator().manual_seed(3))
    with host.running(prior):
        ours = prior.denoise(x, torch.full((2,), sigma))
    level = sigma / (1 + sigma) if prior.flow else sigma

    class Given:
        seed = 0

        def generate_noise(self, _):
            return x / sigma

    euler, levels = comfy.samplers.sampler_object("euler"), torch.tensor([level, 0.0])
    blank = {"samples": torch.zeros_like(x)}
    stock = SamplerCustomAdvanced().sample(Given(), guider(model, scale), euler, levels, blank)
    latent = model.model.process_latent_in(stock[0]["samples"])
    return ((ours - latent).abs().max() / ours.abs().max()).item()


def codec_facts(nodes, model, vae) -> dict:
    """Range and derivatives of the autoencoder under inference mode."""
    from undegrade.pipelines.operators.decode import push

    codec = nodes["UndegradePriorFromGuider"]().wrap(guider(model, 1), vae)[0].codec
    z, v, u = (torch.randn(shape, generator=torch.Generator().manual_seed(k))
               for k, shape in enumerate([(1, 4, 4, 6), (1, 4, 4, 6), (1, 3, 32, 48)]))
    image, pullback = torch.func.vjp(codec.decode, z)
    tangent = push(codec, z, v)[1]
    stock = vae.decode(model.model.process_latent_out(z)).movedim(-1, 1) * 2 - 1
    return {
        "decode": (image.clamp(-1, 1) - stock).abs().max().item(),
        "adjoint": abs(1 - ((tangent * u).sum() / (v * pullback(u)[0]).sum()).item()),
    }


def main() -> None:
    with torch.inference_mode():
        nodes = pack()
        model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(checkpoint(), output_clip=False)
        flow = ModelSamplingSD3().patch(model, 3.0)[0]
        facts = {
            "eps": parity(nodes, model, vae, 1, 3.0),
            "cfg": parity(nodes, model, vae, 5, 3.0),
            "flow": parity(nodes, flow, vae, 1, 2.0),
            **codec_facts(nodes, model, vae),
        }
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
