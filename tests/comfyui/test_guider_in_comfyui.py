"""Prior From Guider against a real ComfyUI, where one is at hand.

`checkout.py` says which one that is.
"""

import json
import subprocess

from comfyui import checkout


def test_predictions_are_those_of_a_stock_sampler_and_the_decoder_can_be_differentiated(tmp_path):
    script = [checkout.HERE / "guider_facts.py", checkout.checkout(), checkout.PACK, tmp_path]
    command = [checkout.python(), *map(str, script)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    facts = json.loads(run.stdout.splitlines()[-1])
    for name in ("eps", "cfg", "flow", "decode"):
        assert facts[name] < 1e-5, facts
    assert facts["adjoint"] < 1e-3, facts
