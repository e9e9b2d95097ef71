"""What the pack adds to ComfyUI's start, beside a pack with one empty node."""

import json
import os
import subprocess

import pytest
from comfyui import checkout

EMPTY = """
class Empty:
    RETURN_TYPES, FUNCTION, CATEGORY = (), "run", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        return ()


NODE_CLASS_MAPPINGS = {"Empty": Empty}
"""
HEAVY = {"transformers", "diffusers", "kornia", "scipy", "skimage", "ray", "torchvision",
         "spandrel", "accelerate", "lpips", "deepinv", "av", "huggingface_hub"}  # fmt: skip
TRIES = 3


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """(the empty pack's, this pack's) of every try, each in an interpreter of its own.

    Before them goes another empty one, with what ComfyUI itself does once. As for a user, Python
    keeps what it compiled, from the second start on.
    """
    packs = tmp_path_factory.mktemp("custom_nodes")
    for name in ("first", "empty"):
        (packs / name).mkdir()
        (packs / name / "__init__.py").write_text(EMPTY)
    (packs / "undegrade").symlink_to(checkout.PACK, target_is_directory=True)
    script = [checkout.HERE / "import_seconds.py", checkout.checkout()]
    folders = [packs / name for name in ("first", "empty", "undegrade")]
    command = [checkout.python(), *map(str, (*script, *folders))]
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    kept["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))
    found = []
    for _ in range(TRIES):
        run = subprocess.run(command, capture_output=True, text=True, env=kept)
        assert run.returncode == 0, run.stderr[-2000:]
        found.append(json.loads(run.stdout.splitlines()[-1])[1:])
    return found


def test_it_adds_at_most_three_tenths_of_a_second(loaded, record_property):
    assert all(empty["done"] and ours["done"] for empty, ours in loaded)
    empty, ours = (min(known["seconds"] for known in tries) for tries in zip(*loaded, strict=True))
    record_property("seconds to load an empty pack and this one", f"{empty:.3f}, {ours:.3f}")
    assert ours - empty <= 0.3


def test_it_brings_no_heavy_package(loaded):
    brought = set().union(*(ours["brought"] for _, ours in loaded))
    assert brought and brought.isdisjoint(HEAVY), brought & HEAVY
