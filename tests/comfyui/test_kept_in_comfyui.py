"""What outlives a run goes when ComfyUI moves weights, and not when it only looks."""

from comfyui.checkout import facts_of


def test_what_is_kept_goes_when_comfyui_moves_weights(tmp_path):
    facts = facts_of("kept_facts.py", tmp_path)
    assert {name for name, there in facts.items() if there} == {"second run", "nothing asked for"}
    assert len(facts) == 8
