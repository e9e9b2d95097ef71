"""Core's Compare Images: the pack brings it only where the running ComfyUI has none."""

import sys
from types import SimpleNamespace

import pytest
import torch

from undegrade.nodes import NODE_CLASS_MAPPINGS
from undegrade.nodes.comfyui.image_compare import NODE_ID, ImageCompare, lacking


@pytest.fixture
def menu(monkeypatch):
    """The nodes of a running ComfyUI; its PreviewImage shows how many pictures it was given."""

    class PreviewImage:
        def save_images(self, images):
            return {"ui": {"images": [{"filename": f"{i}.png"} for i in range(len(images))]}}

    running = SimpleNamespace(NODE_CLASS_MAPPINGS={}, PreviewImage=PreviewImage)
    monkeypatch.setitem(sys.modules, "comfy.model_management", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "nodes", running)
    return running


def test_without_comfyui_there_is_none():
    assert lacking() == {} and NODE_ID not in NODE_CLASS_MAPPINGS


def test_it_fills_a_gap_and_takes_nothing_away(menu):
    assert lacking()[NODE_ID][0] is ImageCompare
    menu.NODE_CLASS_MAPPINGS[NODE_ID] = object
    assert lacking() == {}


def test_it_tells_the_frontend_what_core_tells(menu):
    before, after = torch.zeros(1, 4, 4, 3), torch.ones(2, 4, 4, 3)
    shown = ImageCompare().compare(before, after)["ui"]
    assert [len(shown[side]) for side in ("a_images", "b_images")] == [1, 2]
    assert ImageCompare().compare()["ui"] == {"a_images": [], "b_images": []}
