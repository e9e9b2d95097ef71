"""Runs inside a real ComfyUI: prints as JSON what Region-Adaptive Sampler (stock) does with a small
random model.

usage: python region_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER
"""

# ruff: noqa: I001, TID251
import copy
import json
import sys

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.cldm.cldm
import comfy.controlnet
import comfy.ops
import comfy.samplers
import comfy.utils
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustomAdvanced
from comfy_extras.nodes_easycache import EasyCacheNode
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

LAYOUT = {
    "image_size": 32, "in_channels": 4, "model_channels": 320, "num_res_blocks": [1, 1],
    "channel_mult": [1, 1], "transformer_depth": [0, 1], "transformer_depth_middle": 1,
    "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": 1024,
    "num_head_channels": 64, "num_heads": -1, "legacy": False,
}  # fmt: skip


class Given:
    """A NOISE, the same for every picture size."""

    seed = 0

    def __init__(self, height, width, batch=1):
        generator = torch.Generator().manual_seed(5)
        self.noise = torch.randn(batch, 4, height, width, generator=generator)

    def generate_noise(self, _):
        return self.noise


def karras(model, steps, top):
    sampling = model.get_model_object("model_sampling")
    low = float(sampling.sigma_min)
    return comfy.samplers.k_diffusion_sampling.get_sigmas_karras(steps, low, top)


def run(guider, sampler, sigmas, latent, mask=None):
    given = {"samples": latent, **({"noise_mask": mask} if mask is not None else {})}
    height, width = latent.shape[-2:]
    noise = Given(height, width, len(latent))
    return SamplerCustomAdvanced().sample(noise, guider, sampler, sigmas, given)[0]["samples"]


def ours(nodes, policy=None, **options):
    every = nodes["UndegradeStepPolicy"]().make(
        mode="every step", quality="balanced", threshold=0.005, max_skip=4, early_exit=False,
        adaptive_start=False, start_sigma_easy=0.1,
    )[0]  # fmt: skip
    values = {"solver": "euler", "noise": 1.0, "meetings": 0, "tile": 128, "overlap": 64}
    make = nodes["UndegradeRegionAdaptiveSamplerStock"]().make
    return make(tiles_per_call=4, policy=policy or every, **{**values, **options})[0]


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def control(strength=1.0):
    """A small random ControlNet whose hint matters."""
    net = comfy.cldm.cldm.ControlNet(
        **LAYOUT, hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init
    )
    generator = torch.Generator().manual_seed(9)
    for parameter in net.parameters():
        shape = parameter.shape
        size = max(1, parameter[0].numel())
        random = torch.randn(shape, generator=generator) / size**0.5
        parameter.data = random if parameter.ndim > 1 else torch.ones(shape)
    return comfy.controlnet.ControlNet(net, load_device=torch.device("cpu"))


def with_control(guider, hint, start=0.0, end=1.0):
    """The same guider with a ControlNet on both of its conditionings."""
    net = control().copy().set_cond_hint(hint, 0.5, (start, end))
    for entries in guider.original_conds.values():
        for entry in entries:
            entry["control"], entry["control_apply_to_uncond"] = net, False
    return guider


def smooth(height, width, batch=1):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, 4, height, width, generator=generator)


def parity(nodes, model, flow) -> dict:
    """One tile that is the whole canvas, every step, against ComfyUI's own solvers."""
    latent, found = smooth(16, 16, 2), {}
    stock = {"euler": "euler", "dpm++ 2m": "dpmpp_2m"}
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 4:, :9] = 1
    hint = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))
    for solver, name in stock.items():
        theirs = comfy.samplers.sampler_object(name)
        mine = ours(nodes, solver=solver)
        for case, kind, top in (("eps", model, 3.0), ("eps_top", model, 14.7), ("flow", flow, 0.8)):
            sigmas = karras(kind, 5, top)
            results = [run(small.guider(kind, 3), s, sigmas, latent) for s in (mine, theirs)]
            found[f"{case} {name}"] = difference(*results)
        sigmas = karras(model, 5, 3.0)
        results = [run(small.guider(model, 3), s, sigmas, latent, mask) for s in (mine, theirs)]
        found[f"mask {name}"] = difference(*results)
        guiders = [with_control(small.guider(model, 3), hint, 0.1, 0.8) for _ in range(2)]
        pairs = zip(guiders, (mine, theirs), strict=True)
        results = [run(g, s, sigmas, latent) for g, s in pairs]
        found[f"control {name}"] = difference(*results)
    return found


def tiled(nodes, model) -> dict:
    """Several tiles with a ControlNet equal the same tiles sampled one by one by stock euler."""
    latent, hint = smooth(24, 32), torch.rand(1, 3, 192, 256)
    sigmas, mine = karras(model, 4, 3.0), ours(nodes)
    whole = run(with_control(small.guider(model, 3), hint), mine, sigmas, latent)
    from undegrade.pipelines.tiling import TileGrid

    grid, euler = TileGrid(24, 32, 16, 8), comfy.samplers.sampler_object("euler")
    noises, hints = grid.cut(Given(24, 32).noise), grid.scaled(8).cut(hint)
    parts = []
    for tile, noise, shown in zip(grid.cut(latent), noises, hints, strict=True):
        given = Given(16, 16)
        given.noise = noise[None]
        guider = with_control(small.guider(model, 3), shown[None])
        samples = {"samples": tile[None]}
        parts.append(SamplerCustomAdvanced().sample(given, guider, euler, sigmas, samples)[0])
    stitched = grid.stitch(torch.cat([part["samples"] for part in parts]))
    plain = run(small.guider(model, 3), mine, sigmas, latent)
    return {"tiles": difference(whole, stitched), "hint_matters": difference(plain, whole)}


def refusals(nodes, model) -> dict:
    """What is refused, in its own words."""
    said, sigmas, latent = {}, karras(model, 12, 3.0), smooth(16, 16)
    cached = EasyCacheNode.execute(model, 0.2, 0.15, 0.95, False).result[0]
    area = small.guider(model, 3)
    area.original_conds["positive"][0]["area"] = (8, 8, 0, 0)
    cases = {
        "cache": (small.guider(cached, 3), sigmas),
        "area": (area, sigmas),
        "partial": (small.guider(model, 3), sigmas[:6]),
    }
    for name, (guider, levels) in cases.items():
        try:
            run(guider, ours(nodes), levels, latent)
            said[name] = "nothing"
        except ValueError as error:
            said[name] = str(error)
    return said


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    with torch.inference_mode():
        nodes = small.pack()
        load = small.comfy.sd.load_checkpoint_guess_config
        model, *_ = load(small.checkpoint(), output_vae=False, output_clip=False)
        flow = ModelSamplingSD3().patch(model, 3.0)[0]
        before = copy.deepcopy(model.model_options)
        facts = {
            "parity": parity(nodes, model, flow), **tiled(nodes, model),
            "refused": refusals(nodes, model), "untouched": model.model_options == before,
        }  # fmt: skip
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
