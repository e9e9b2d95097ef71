"""Derivatives through ComfyUI's models, in a real ComfyUI where one is at hand.

`checkout.py` says which one that is. Each run takes about a minute.
"""


import pytest
from comfyui import checkout
from comfyui.checkout import facts_of


def test_pictures_are_those_of_ordinary_tensors(tmp_path):
    """Under inference mode, as ComfyUI calls nodes: what torch 2.8 to 2.11 got wrong."""
    facts = facts_of("derivative_facts.py", tmp_path)
    assert set(facts["difference"]) == {"cg cfg", "dps cfg", "dps lora", "dps flow"}
    assert max(facts["difference"].values()) < 1e-5, facts
    assert "has a ControlNet" in facts["refused"], facts


def test_derivatives_are_right_where_weights_are_fetched_by_every_operation(tmp_path):
    patching = checkout.checkout() / "comfy" / "model_patcher.py"
    if "class ModelPatcherDynamic" not in patching.read_text():
        pytest.skip("this ComfyUI has no dynamic VRAM")
    facts = facts_of("dynamic_facts.py", tmp_path)
    assert facts["streamed"] > 1, "the fault is there: a page was used again"
    right = ("decoder", "plain", "network", "again", "decoder without a file")
    assert max(facts[name] for name in right) < 1e-5, facts
    assert facts["stand-in"] and facts["plain without a file"] < 1e-5, facts
    assert "dynamic VRAM fetches the weights of SD20" in facts["refused"], facts
