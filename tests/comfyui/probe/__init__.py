"""A node pack of the tests: keeps the numbers of pictures, which files round to 8 bits, and writes
down which of Undegrade's nodes changed what all packs share, and in which format they answered."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy

NUMBERS = Path(os.environ["UNDEGRADE_NUMBERS"])
CHANGES = NUMBERS / "changes.jsonl"
FORMATS = NUMBERS / "formats.jsonl"


class KeepNumbers:
    """Writes a batch of pictures, (B, H, W, C), as they are: float32."""

    RETURN_TYPES = ()
    FUNCTION = "keep"
    OUTPUT_NODE = True
    CATEGORY = "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "name": ("STRING", {"default": "x"})}}

    def keep(self, images, name):
        NUMBERS.mkdir(parents=True, exist_ok=True)
        numpy.save(NUMBERS / f"{name}.npy", images.cpu().numpy())
        return {"ui": {"text": [str(tuple(images.shape))]}}


def watch(cls, node_id, state):
    """Compare the shared state before and after every call of a node."""
    function = getattr(cls, cls.FUNCTION)

    def watched(self, *given, **named):
        before = state.state()
        try:
            answer = function(self, *given, **named)
            with FORMATS.open("a") as file:
                file.write(json.dumps([node_id, formats(cls, answer)]) + "\n")
            return answer
        finally:
            with CHANGES.open("a") as file:
                file.write(json.dumps([node_id, state.changed(before, state.state())]) + "\n")

    setattr(cls, cls.FUNCTION, watched)


def formats(cls, answer):
    """"IMAGE float32 cpu" and the like, of every picture, mask and latent of an answer."""
    values = answer["result"] if isinstance(answer, dict) else answer
    found = []
    for kind, value in zip(cls.RETURN_TYPES, values, strict=True):
        if kind in ("IMAGE", "MASK", "LATENT"):
            tensor = value["samples"] if kind == "LATENT" else value
            found.append(f"{kind} {tensor.dtype} {tensor.device}".replace("torch.", ""))
    return found


def watch_all(prompt):
    """Before the first prompt, when every pack has been loaded."""
    if not CHANGES.exists():
        CHANGES.touch()
        path = Path(__file__).resolve().parent.parent.parent / "global_state.py"
        spec = importlib.util.spec_from_file_location("global_state", path)
        state = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(state)
        importlib.import_module("diffusers.models.unets.unet_2d")  # sets filters and variables
        for node_id, cls in sys.modules["nodes"].NODE_CLASS_MAPPINGS.items():
            if node_id.startswith("Undegrade"):
                watch(cls, node_id, state)
    return prompt


NODE_CLASS_MAPPINGS = {"KeepNumbers": KeepNumbers}
if "server" in sys.modules:  # not under the undegrade command
    sys.modules["server"].PromptServer.instance.add_on_prompt_handler(watch_all)
