"""The number format that "auto" stands for."""

from types import SimpleNamespace

import pytest
import torch
from node_calls import call

from undegrade.nodes.comfyui import host
from undegrade.nodes.precision import AUTO, PRECISIONS, dtype_of


@pytest.mark.parametrize(
    ("device", "capability", "comfyui", "expected"),
    [
        ("cpu", (9, 0), None, torch.float32),
        ("cuda", (9, 0), None, torch.float16),
        ("cuda", (6, 1), None, torch.float32),
        ("cuda", (7, 5), False, torch.float32),  # ComfyUI knows those that give NaN
        ("cuda", (6, 1), True, torch.float16),
    ],
)
def test_auto_is_what_the_device_is_quick_with(device, capability, comfyui, expected, monkeypatch):
    management = comfyui is not None and SimpleNamespace(should_use_fp16=lambda device: comfyui)
    monkeypatch.setattr(host, "device", lambda: torch.device(device))
    monkeypatch.setattr(host, "comfy", lambda name: management)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert dtype_of(AUTO) == expected
    assert {dtype_of(name) for name in PRECISIONS} == set(PRECISIONS.values())


@pytest.mark.parametrize(("precision", "together"), [("float32", False), ("bfloat16", True)])
def test_weights_lie_as_a_card_takes_them(precision, together, monkeypatch):
    """And the CPU gives the same picture with either layout, to rounding."""
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = call("UndegradeLoadPixelPrior", precision=precision)[0]
    assert expected.network.inp.weight.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr(host, "device", lambda: torch.device("cuda"))
    prior = call("UndegradeLoadPixelPrior", precision=precision)[0]
    assert prior.network.inp.weight.is_contiguous(memory_format=torch.channels_last) == together
    apart = prior.denoise(x, torch.ones(1)) - expected.denoise(x, torch.ones(1))
    assert apart.abs().max() < (1e-5 if precision == "float32" else 1e-2)
