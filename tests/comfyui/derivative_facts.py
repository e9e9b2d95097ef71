"""Runs inside a real ComfyUI: prints as JSON how far the pictures that nodes make by derivatives
through a hosted model are, called as ComfyUI calls them, from those of ordinary tensors.

usage: python derivative_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER

ComfyUI makes and moves everything under inference mode, which derivatives of several versions of
torch do not bear. The other run leaves it before the first tensor is made. `pictures` are some
values of the first run, to compare versions of torch with.

On a card dynamic VRAM is on where this ComfyUI has it, and no ControlNet is tried.
"""

# ruff: noqa: I001, TID251
import json
import sys

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

UPDATES = {"cg": "UndegradeCGMeasurementUpdate", "dps": "UndegradeGradientMeasurementUpdate"}
CONTROL = {
    "image_size": 32, "in_channels": 4, "model_channels": 320, "hint_channels": 3,
    "num_res_blocks": [1, 1], "channel_mult": [1, 1], "transformer_depth": [0, 1],
    "transformer_depth_middle": 1, "use_spatial_transformer": True, "num_heads": -1,
    "use_linear_in_transformer": True, "context_dim": 1024, "num_head_channels": 64,
    "legacy": False,
}  # fmt: skip


def randomise(network, seed: int) -> None:
    """Weights that keep about the size of what passes."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        random = torch.randn(parameter.shape, generator=generator)
        scale = max(1, parameter.numel() // max(1, len(parameter))) ** -0.5
        parameter.data = 0.7 * random * scale if parameter.ndim > 1 else 1 + 0.1 * random


def controlled(conditioning: list) -> list:
    """The conditioning with a random ControlNet that sees a random hint."""
    network = comfy.cldm.cldm.ControlNet(**CONTROL, operations=comfy.ops.disable_weight_init)
    randomise(network, 7)
    hint = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(8))
    device = comfy.model_management.get_torch_device()
    control = comfy.controlnet.ControlNet(network.eval().requires_grad_(False), load_device=device)
    control.set_cond_hint(hint, 0.5)
    return [[c, {**own, "control": control}] for c, own in conditioning]


def lora(model):
    """A clone with a patch of rank 2 on its first convolution and an attention layer."""
    generator, patches = torch.Generator().manual_seed(9), {}
    for key, value in model.model.state_dict().items():
        if key.endswith(("input_blocks.0.0.weight", "attn1.to_q.weight")):
            difference = 0.05 * torch.randn(value.shape, generator=generator)
            patches[key] = ("diff", (difference,))
    clone = model.clone()
    assert len(clone.add_patches(patches)) == len(patches) > 1
    return clone


def guiders(model) -> dict:
    """Name -> a GUIDER."""
    flow = ModelSamplingSD3().patch(model, 3.0)[0]
    return {
        "cfg": small.guider(model, 5), "lora": small.guider(lora(model), 1),
        "flow": small.guider(flow, 1),
    }  # fmt: skip


def call(node_id: str, **given):
    """Run a node with its widgets' defaults, in the mode that is on."""
    from node_calls import WIDGETS, inputs_of

    values, cls = {}, sys.modules["undegrade"].NODE_CLASS_MAPPINGS[node_id]
    for name, (kind, settings) in inputs_of(node_id).items():
        if isinstance(kind, list) or kind in WIDGETS:
            values[name] = settings.get("default", kind[0])
    made = getattr(cls(), cls.FUNCTION)(**{**values, **given})
    return made["result"] if isinstance(made, dict) else made


def pictures(path: str) -> dict[str, torch.Tensor]:
    """A restoration by every update that takes derivatives, with every guider."""
    from node_calls import photo

    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(path, output_clip=False)
    assert not small.DYNAMIC or (model.is_dynamic() and vae.patcher.is_dynamic())
    operator = call("UndegradeDownscale", factor=4)[0]
    measurement = call("UndegradeDegradeImage", image=photo(), operator=operator)[1]
    found = {}
    for name, guider in guiders(model).items():
        prior = call("UndegradePriorFromGuider", guider=guider, vae=vae)[0]
        for update, node in UPDATES.items():
            if update == "cg" and name != "cfg":
                continue  # goes through the decoder alone
            given = {"prior": prior, "measurement": measurement, "update": call(node)[0]}
            short = {"steps": 3, "sigma_max": 5.0, "seed": 4}
            found[f"{update} {name}"] = call("UndegradePosteriorSampler", **given, **short)[0]
    return found


def through_a_controlnet(path: str) -> str:
    """What is said of derivatives through one."""
    from node_calls import photo

    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(path, output_clip=False)
    guider = small.guider(model, 1)
    guider.set_conds(controlled(small.conditioning(1)))
    operator = call("UndegradeDownscale", factor=4)[0]
    given = {
        "prior": call("UndegradePriorFromGuider", guider=guider, vae=vae)[0],
        "measurement": call("UndegradeDegradeImage", image=photo(), operator=operator)[1],
        "steps": 3, "sigma_max": 5.0,
    }  # fmt: skip
    assert call("UndegradePosteriorSampler", **given)[0].isfinite().all()  # by the decoder alone
    try:
        call("UndegradePosteriorSampler", update=call(UPDATES["dps"])[0], **given)
    except ValueError as error:
        return str(error)
    return "nothing"


def main() -> None:
    comfy.utils.set_progress_bar_enabled(False)
    small.pack()
    sys.path.insert(0, small.PACK + "/tests")
    path = small.checkpoint()
    if small.DYNAMIC:
        small.turn_dynamic_vram_on()
    with torch.inference_mode():
        as_called = pictures(path)
        refused = "" if small.DYNAMIC else through_a_controlnet(path)
    with torch.inference_mode(False), torch.no_grad():
        ordinary = pictures(path)
    facts = {
        "refused": refused,
        "difference": {k: (v - ordinary[k]).abs().max().item() for k, v in as_called.items()},
        "pictures": {k: v.flatten()[::517].tolist() for k, v in as_called.items()},
    }
    sys.stdout.write("\n" + json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
