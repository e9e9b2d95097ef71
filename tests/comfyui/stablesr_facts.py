"""Runs inside a real ComfyUI: prints as JSON what StableSR Module does to a narrow UNet of Stable
Diffusion 2's levels, both with random weights.

usage: python stablesr_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER
"""

# ruff: noqa: I001, TID251
import json
import sys

import guider_facts as small  # puts ComfyUI on the path, on the CPU
import region_facts as regions

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch

sys.path.insert(0, small.PACK + "/tests")
import stablesr_modules

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64,
    "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3, "use_spatial_transformer": True,
    "use_linear_in_transformer": True, "context_dim": 1024, "num_head_channels": 64,
    "num_heads": -1, "legacy": False, "use_temporal_attention": False,
}  # fmt: skip


def model():
    config = comfy.supported_models.SD20(UNET)
    config.set_inference_dtype(torch.float32, None)
    base = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    generator = torch.Generator().manual_seed(2)
    for parameter in base.diffusion_model.parameters():
        random = torch.randn(parameter.shape, generator=generator)
        scale = max(1, parameter.numel() // max(1, len(parameter))) ** -0.5
        parameter.data = 0.7 * random * scale if parameter.ndim > 1 else 1 + 0.1 * random
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)


def by_hooks(base, network, z_lr, strength, sigmas, guider, latent, noise):
    """Stock euler on the unpatched model, modulated by torch's own forward hooks."""
    state, handles, unet = {}, [], base.model.diffusion_model
    z_lr = base.model.process_latent_in(z_lr)

    def maps(_, args, __):
        t = args[1]
        state["maps"] = network.encoder(z_lr.repeat(len(t) // len(z_lr), 1, 1, 1), t)

    from undegrade.models.stablesr import BLOCKS, level_of

    handles.append(unet.register_forward_pre_hook(maps, with_kwargs=True))
    for block in BLOCKS:
        layer, level = network.modulations[block.replace(".", "_")], level_of(block)

        def change(_, __, h, layer=layer, level=level):
            return h + strength * (layer(h, state["maps"][level]) - h)

        module = base.get_model_object(f"diffusion_model.{block}.out_layers")
        handles.append(module.register_forward_hook(change))
    given, euler = {"samples": latent}, regions.comfy.samplers.sampler_object("euler")
    out = regions.SamplerCustomAdvanced().sample(noise, guider, euler, sigmas, given)[0]["samples"]
    for handle in handles:
        handle.remove()
    return out


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        nodes, base = small.pack(), model()
        from undegrade.models import stablesr
        from undegrade.nodes.comfyui import struct_condition
        from undegrade.pipelines.tiling import TileGrid

        tensors = stablesr_modules.tensors(unet=64, width=128)
        network = stablesr.load(tensors, "random")
        module = struct_condition.patcher_of(network, base)
        euler = regions.comfy.samplers.sampler_object("euler")
        latent, facts = regions.smooth(16, 24), {}
        plain = regions.karras(base, 3, 3.0)
        before = regions.run(small.guider(base, 3), euler, plain, latent)
        z_lr = base.model.process_latent_in(latent)
        for strength in (1.0, 0.5):
            patched = struct_condition.patched(base, module, z_lr, strength)
            ours = regions.run(small.guider(patched, 3), euler, plain, latent)
            guider = small.guider(base, 3)
            given = (strength, plain, guider, latent, regions.Given(16, 24))
            facts[f"hooks {strength}"] = regions.difference(
                ours, by_hooks(base, network, latent, *given)
            )
        facts["matters"] = regions.difference(ours, before)
        after = regions.run(small.guider(base, 3), euler, plain, latent)
        facts["unpatched"] = regions.difference(after, before)
        sigma = torch.tensor([0.1, 3.0, 10.0])  # every sample at its own level and timestep
        levels = {"x": regions.smooth(16, 24, 3), "sigma": sigma}
        facts["per sample"] = alone(struct_condition.patched(base, module, z_lr, 1.0), **levels)
        facts["tiles"] = tiled(nodes, base, module, TileGrid(16, 24, 16, 8), struct_condition)
        facts["lora"] = lora(base, module, z_lr, struct_condition, plain, latent)
        facts["twice"] = refused(lambda: struct_condition.patched(patched, module, z_lr, 1.0))
        narrow = stablesr.load(stablesr_modules.tensors(unet=32, width=128), "narrow")
        wide = struct_condition.patcher_of(narrow, base)
        facts["foreign"] = refused(lambda: struct_condition.patched(base, wide, z_lr, 1.0))
        other = struct_condition.patched(base, module, z_lr[..., :16], 1.0)
        facts["size"] = refused(lambda: regions.run(small.guider(other, 3), euler, plain, latent))
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


def alone(patched, x, sigma) -> float:
    """A batch at three levels against each sample alone, through the prior's way of asking."""
    from undegrade.nodes.comfyui.guider_prior import prepared

    with prepared(small.guider(patched, 3), x.shape) as guider:
        def ask(part):
            return guider(x[part], sigma[part], model_options=guider.run_options, seed=0)

        together = ask(slice(None))
        parts = torch.cat([ask(slice(k, k + 1)) for k in range(len(x))])
    return regions.difference(together, parts)


def tiled(nodes, base, module, grid, hosted) -> float:
    """Region-adaptive tiles against every tile alone, with a module that holds this tile only."""
    latent, euler = regions.smooth(16, 24), regions.comfy.samplers.sampler_object("euler")
    sigmas = regions.karras(base, 3, 3.0)
    z_lr = base.model.process_latent_in(latent)
    whole = hosted.patched(base, module, z_lr, 1.0)
    ours = regions.run(small.guider(whole, 3), regions.ours(nodes), sigmas, latent)
    parts = []
    cuts = (grid.cut(latent), grid.cut(z_lr), grid.cut(regions.Given(16, 24).noise))
    for tile, z, noise in zip(*cuts, strict=True):
        given = regions.Given(16, 16)
        given.noise = noise[None]
        guider = small.guider(hosted.patched(base, module, z[None], 1.0), 3)
        sampled = regions.SamplerCustomAdvanced().sample(
            given, guider, euler, sigmas, {"samples": tile[None]}
        )
        parts.append(sampled[0]["samples"])
    return regions.difference(ours, grid.stitch(torch.cat(parts)))


def lora(base, module, z_lr, hosted, sigmas, latent) -> float:
    """A weight patch inside a modulated block, before and after the module: the same model."""
    key = "diffusion_model.input_blocks.1.0.out_layers.3.weight"
    shift = {key: ("diff", (torch.full((64, 64, 3, 3), 0.01),))}
    first = base.clone()
    first.add_patches(shift, 1.0)
    first = hosted.patched(first, module, z_lr, 1.0)
    second = hosted.patched(base, module, z_lr, 1.0)
    without = second.clone()
    second.add_patches(shift, 1.0)
    euler = regions.comfy.samplers.sampler_object("euler")
    models = (first, second, without)
    results = [regions.run(small.guider(m, 3), euler, sigmas, latent) for m in models]
    assert regions.difference(results[0], results[2]) > 1e-3
    return regions.difference(results[0], results[1])


def refused(call) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "nothing"


if __name__ == "__main__":
    main()
