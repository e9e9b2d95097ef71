"""Networks under ComfyUI's memory management: brought whole, and gone when nobody has them."""

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch
from diffusers_folders import pixel_network

from undegrade.nodes.comfyui import host
from undegrade.nodes.comfyui.placed_networks import PATCHER


class ModelPatcher:
    """As ComfyUI's: the model gets a `device`, which is set again when it is moved."""

    def __init__(self, model, load_device, offload_device):
        self.model, self.load_device = model, load_device
        if not hasattr(model, "device"):
            model.device = offload_device


@pytest.fixture
def loads(monkeypatch):
    """ComfyUI for one test; what was asked of it: (patchers, whole)."""
    asked = []

    def load_models_gpu(models, force_full_load=False):
        asked.append((models, force_full_load))
        for patcher in models:
            patcher.model.to(patcher.load_device)
            patcher.model.device = patcher.load_device

    known = {
        "comfy.model_patcher": SimpleNamespace(ModelPatcher=ModelPatcher),
        "comfy.model_management": SimpleNamespace(
            load_models_gpu=load_models_gpu, unet_offload_device=lambda: torch.device("cpu")
        ),
    }
    monkeypatch.setattr(host, "comfy", known.get)
    return asked


def test_a_network_of_diffusers_is_placed_whole_with_its_buffers(loads):
    network = pixel_network().to(torch.float32)
    network.register_buffer("prompt", torch.ones(2))
    host.place([network], torch.device("meta"))
    assert {t.device.type for t in (*network.parameters(), *network.buffers())} == {"meta"}
    assert loads[0][1] is True


def test_it_keeps_one_patcher_and_its_own_tensors(loads):
    network = torch.nn.Linear(2, 2)
    names = list(network.state_dict())
    host.place([network], torch.device("cpu"))
    host.place([network], torch.device("cpu"))
    assert loads[0][0][0] is loads[1][0][0]
    assert list(network.state_dict()) == names and len(list(network.modules())) == 1


def test_it_gets_the_patcher_that_comfyuis_own_networks_get(loads):
    class Core(ModelPatcher):
        pass

    host.comfy("comfy.model_patcher").CoreModelPatcher = Core
    host.place([torch.nn.Linear(2, 2)], torch.device("cpu"))
    assert isinstance(loads[0][0][0], Core)


def test_another_device_is_another_patcher_of_the_same_network(loads):
    network = torch.nn.Linear(2, 2)
    host.place([network], torch.device("cpu"))
    host.place([network], torch.device("meta"))
    (first,), (second,) = (patchers for patchers, _ in loads)
    assert second.load_device == torch.device("meta") and first.model is second.model


def test_weights_that_comfyui_moved_under_inference_mode_are_ordinary_again(loads):
    network = torch.nn.Linear(2, 2).requires_grad_(False)
    host.place([network], torch.device("cpu"))
    with torch.inference_mode():
        getattr(network, PATCHER).model.double()
    assert network.weight.is_inference()
    host.place([network], torch.device("cpu"))
    assert not network.weight.is_inference() and not network.bias.is_inference()


def test_a_network_that_nobody_has_any_more_is_freed(loads):
    network = torch.nn.Linear(2, 2)
    host.place([network], torch.device("cpu"))
    loads.clear()
    gone = weakref.ref(network)
    del network
    gc.collect()
    assert gone() is None
