"""Runs inside a real ComfyUI: prints as JSON whether what is kept with a network is still there
after what ComfyUI does to its models.

usage: python kept_facts.py COMFYUI_FOLDER PACK_FOLDER WORK_FOLDER
"""

# ruff: noqa: I001, TID251
import gc
import json
import sys
import uuid

import guider_facts as small  # puts ComfyUI on the path, on the CPU

import comfy.model_management as management
import torch


def facts(nodes) -> dict[str, bool]:
    """What happened -> whether it is still there."""
    from undegrade.nodes.comfyui import host
    from undegrade.nodes.comfyui.kept import KEPT

    type(KEPT.recordings).held = 0  # of a card's memory

    def kept() -> bool:
        return bool(KEPT.recordings.known)

    def run(prior) -> bool:
        """A run that keeps something; whether it found what the one before had kept."""
        with host.running(prior), KEPT.lent(prior.network) as lent:
            found = bool(lent.known)
            lent.known["recorded"] = object()
        return found

    with torch.inference_mode():
        prior = nodes["UndegradeLoadPixelPrior"]().load("built-in", "float32")[0]
    device = management.get_torch_device()
    found = {"first run": run(prior), "second run": run(prior)}
    management.free_memory(0, device)
    found["nothing asked for"] = kept()
    management.unload_all_models()  # which /free asks for
    found["unloaded"] = kept()
    found["loaded again"] = run(prior)
    management.current_loaded_models[0].model_unload(1000)
    found["a part unloaded"] = kept()
    run(prior)
    management.current_loaded_models[0].model.patches_uuid = uuid.uuid4()  # as a LoRA leaves it
    host.place([prior.network], device)
    found["patched"] = kept()
    run(prior)
    del prior
    gc.collect()
    found["its network gone"] = kept()
    return found


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(facts(small.pack())) + "\n")
