"""Prior From Guider against a real ComfyUI, where one is at hand.

COMFYUI_PATH names its folder, COMFYUI_PYTHON the interpreter that has its requirements and the
pack's (this one if it is not set).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
COMFYUI = os.environ.get("COMFYUI_PATH")


@pytest.mark.comfyui
@pytest.mark.skipif(not COMFYUI, reason="set COMFYUI_PATH to a ComfyUI checkout")
def test_predictions_are_those_of_a_stock_sampler_and_the_decoder_can_be_differentiated(tmp_path):
    python = os.environ.get("COMFYUI_PYTHON", sys.executable)
    script = [python, str(HERE / "guider_facts.py"), str(COMFYUI), str(HERE.parent.parent)]
    run = subprocess.run([*script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    facts = json.loads(run.stdout.splitlines()[-1])
    for name in ("eps", "cfg", "flow", "decode"):
        assert facts[name] < 1e-5, facts
    assert facts["adjoint"] < 1e-3, facts
