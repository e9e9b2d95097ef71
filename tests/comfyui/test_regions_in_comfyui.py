"""Region-Adaptive Sampler (stock) and StableSR Module against a real ComfyUI, where one is at hand.

`checkout.py` says which one that is. Some minutes on one core.
"""


from comfyui.checkout import facts_of


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
