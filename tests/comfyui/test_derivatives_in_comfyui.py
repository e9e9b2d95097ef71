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


@pytest.mark.cuda
def test_a_card_gives_the_cpus_pictures(tmp_path):
    """With the dynamic VRAM of those versions that have it."""
    if checkout.device() == "cpu":
        pytest.skip("COMFYUI_DEVICE names no card")
    expected = facts_of("derivative_facts.py", tmp_path)["pictures"]
    facts = facts_of("derivative_facts.py", tmp_path, checkout.device())
    assert max(facts["difference"].values()) < 1e-4, facts["difference"]
    for name, values in expected.items():
        found = facts["pictures"][name]
        assert max(abs(a - b) for a, b in zip(found, values, strict=True)) < 1e-3, name


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
