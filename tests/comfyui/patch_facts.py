"""Runs inside a real ComfyUI: prints as JSON which patches of its nodes are told apart as bound to
the canvas: name -> the sentence, or "" where the patch may stay.

usage: python patch_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER
"""

# ruff: noqa: I001, TID251
import json
import sys
from types import SimpleNamespace

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.latent_formats
import comfy.model_patcher
import torch
from comfy_extras import nodes_model_patch as core

SIZE = (64, 48)


class Encoder:
    """A VAE of ComfyUI."""

    def encode(self, image):
        return torch.zeros(1, 4, SIZE[0] // 8, SIZE[1] // 8)

    def decode(self, latent):
        return torch.zeros(1, *SIZE, 3)

    def spacial_compression_encode(self):
        return 8


def made():
    """(a model, a model patch, a picture)"""
    network = torch.nn.Module()
    network.latent_format = comfy.latent_formats.SDXL()
    model = comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
    patch = SimpleNamespace(project_modules=torch.nn.ModuleList(), additional_in_dim=0,
                            process_input_latent_image=lambda z: z.flatten(2).transpose(1, 2))
    return model, SimpleNamespace(model=patch), torch.zeros(1, *SIZE, 3)


def put(function):
    """The model with a patch of a class of core's, which its node puts there."""
    model, patch, picture = made()
    model.set_model_double_block_patch(function(patch, picture))
    return model


def supir(restore):
    model, patch, picture = made()
    return core.SUPIRApply.execute(
        model=model, model_patch=patch, vae=Encoder(), image=picture, strength_start=1.0,
        strength_end=1.0, restore_cfg=restore, restore_cfg_s_tmin=0.05).result[0]  # fmt: skip


def restoring():
    """Only what SUPIR's restoring guidance puts on the model."""
    model = supir(4.0)
    del model.model_options["transformer_options"]["patches"]
    return model


def diffsynth():
    model, patch, picture = made()
    node = core.QwenImageDiffsynthControlnet()
    return node.diffsynth_controlnet(model, patch, Encoder(), picture, 1.0)[0]


def style():
    model, patch, _ = made()
    hidden = torch.zeros(1, 27, 729, 1152)
    seen = SimpleNamespace(all_hidden_states=hidden, penultimate_hidden_states=hidden[:, 0])
    return core.USOStyleReference().apply_patch(model, patch, seen)[0]


def plain():
    return made()[0]


MODELS = {"plain": plain, "style": style, "diffsynth": diffsynth}
if hasattr(core, "SUPIRApply"):
    MODELS |= {
        "supir": lambda: supir(0.0), "restoring": restoring,
        "z-image": lambda: put(lambda p, x: core.ZImageControlPatch(p, Encoder(), x, 1.0)),
        "uni3c": lambda: put(lambda p, x: core.WanUni3CCnetPatch(
            p, x, Encoder(), None, 1.0, 10.0, 0.0)),
    }  # fmt: skip


def facts():
    from undegrade.nodes.comfyui.model_patches import refuse_canvas_bound

    said = dict.fromkeys(MODELS, "")
    for name, model in MODELS.items():
        try:
            refuse_canvas_bound(model().model_options, 4, "tiles of it")
        except ValueError as error:
            said[name] = str(error)
    return said


if __name__ == "__main__":
    small.pack()
    sys.stdout.write("\n" + json.dumps(facts()) + "\n")
