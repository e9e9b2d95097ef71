"""Where the tests of this folder run: on a pretended card everywhere, and on a CUDA device where
one is (`-m cuda` chooses those)."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import comfy_fakes
import pretended_device
import pytest
import stablesr_patchers
import torch
from every_node import comfyui, models, output

from undegrade.models import scratch_finder
from undegrade.nodes.comfyui import host, model_weights
from undegrade.nodes.comfyui.wall import repeatable

__all__ = ["comfyui", "models"]  # fixtures
REASON = "needs a CUDA device"


@pytest.fixture(params=["pretended", pytest.param("cuda", marks=pytest.mark.cuda)])
def card(request, monkeypatch):
    """The device. On CUDA convolutions and products are in full float32."""
    if request.param == "pretended":
        enter = lambda: pretended_device.Card().__enter__()  # noqa: E731
        thread = partial(ThreadPoolExecutor, initializer=enter)
        monkeypatch.setattr(model_weights, "ThreadPoolExecutor", thread)  # modes end with a thread
        with pretended_device.pretended():
            yield pretended_device.CARD
    else:
        with repeatable():
            yield request.getfixturevalue("cuda")


@pytest.fixture
def cuda():
    """A real CUDA device, for what a pretended one cannot tell."""
    if not torch.cuda.is_available():
        pytest.skip(REASON)
    return torch.device("cuda")


def forget():
    """What was made for another device."""
    output.cache_clear()
    scratch_finder.built_in.cache_clear()


@pytest.fixture
def use(monkeypatch):
    """use(device): what nodes compute on from now on; what was made for another is forgotten."""

    def choose(device):
        device = torch.device(device)
        monkeypatch.setattr(host, "device", lambda: device)
        for patcher in (comfy_fakes.Patcher, stablesr_patchers.Patcher):
            monkeypatch.setattr(patcher, "load_device", device)
        forget()
        return device

    yield choose
    forget()
