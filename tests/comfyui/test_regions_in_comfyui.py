"""Region-Adaptive Sampler (stock) and StableSR Module against a real ComfyUI, where one is at hand.

COMFYUI_PATH names its folder, COMFYUI_PYTHON the interpreter that has its requirements and the
pack's (this one if it is not set). Some minutes on one core.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
COMFYUI = os.environ.get("COMFYUI_PATH")
pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COMFYUI, reason="set COMFYUI_PATH to a ComfyUI checkout"),
]


def facts_of(script: str, work: Path) -> dict:
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    command = [python, str(HERE / script), str(COMFYUI), str(HERE.parent.parent), str(work)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout.splitlines()[-1])


def test_one_tile_is_stock_sampling_and_tiles_see_their_own_hint(tmp_path):
    facts = facts_of("region_facts.py", tmp_path)
    assert len(facts["parity"]) == 10 and max(facts["parity"].values()) < 1e-5, facts
    assert facts["tiles"] < 1e-5 < 0.1 < facts["hint_matters"] and facts["untouched"], facts
    said = {"cache": "step cache", "area": "has an area", "partial": "do not fall to 0"}
    assert all(part in facts["refused"][name] for name, part in said.items()), facts


def test_every_block_is_modulated_on_the_clone_alone(tmp_path):
    facts = facts_of("stablesr_facts.py", tmp_path)
    for name in ("hooks 1.0", "hooks 0.5", "per sample", "tiles", "lora", "unpatched"):
        assert facts[name] < 1e-5, facts
    assert facts["matters"] > 0.1
    said = {"twice": "already", "foreign": "64 channels", "size": "24x16"}
    assert all(part in facts[name] for name, part in said.items()), facts


def test_trained_injection_and_regressor(tmp_path):
    facts = facts_of("injection_facts.py", tmp_path)
    assert facts["untrained is the same"] and facts["trained"] > 1e-2, facts
    small = ("again", "tiles", "gains new", "diffusers", "diffusers trained")
    assert max(facts[name] for name in small) < 1e-5, facts
    assert facts["gains trained"] > 1e-4 and facts["without diffusers"] > 0.1, facts
    assert facts["skips"] < 0.7 * facts["every"] == 0.7 * 20, facts
    said = {"other": "leave injection empty", "foreign": "states of 3 channels"}
    assert all(part in facts[name] for name, part in said.items()), facts
