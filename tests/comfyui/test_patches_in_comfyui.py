"""Core's own patches on a MODEL that are made for the whole canvas, and those that are not."""

from comfyui.test_regions_in_comfyui import facts_of

BOUND = {"diffsynth": "DiffSynthCnetPatch", "supir": "SUPIRPatch", "restoring": "SUPIRApply",
         "z-image": "ZImageControlPatch", "uni3c": "WanUni3CCnetPatch"}  # fmt: skip


def test_patches_of_the_canvas_are_told_apart(tmp_path):
    facts = facts_of("patch_facts.py", tmp_path)
    assert facts.pop("plain") == facts.pop("style") == ""
    assert "diffsynth" in facts and facts.keys() <= BOUND.keys()
    for name, said in facts.items():
        assert f"has a patch ({BOUND[name]}) that brings a picture for the whole canvas" in said
