"""Every node gives on a card what it gives on the CPU."""

from dataclasses import replace

import pytest
import torch
from every_node import small_inputs
from node_calls import call, inputs_of

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.pipelines.blind import (
    blur_estimate,
    gradient_posterior,
    halves,
    kernel_estimation,
    spectrum,
)
from undegrade.pipelines.blind.gradient_posterior import GradientPosterior

PICTURES = ("IMAGE", "MASK", "LATENT")
pytestmark = pytest.mark.usefixtures("comfyui")


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    """A blind search of as many kinds of rounds, two of each, and few shapes."""
    for name in ("COARSE", "FINE", "LAST"):
        few = replace(getattr(kernel_estimation, name), rounds=2)
        monkeypatch.setattr(kernel_estimation, name, few)
    for module in (blur_estimate, halves):
        monkeypatch.setattr(module, "AGAIN", replace(halves.AGAIN, rounds=2))
    monkeypatch.setattr(gradient_posterior, "DESCENTS", 1)
    for steps in (GradientPosterior.expected, GradientPosterior.surprise):
        monkeypatch.setattr(steps, "__defaults__", (1,))
    monkeypatch.setattr(spectrum, "TURNS", 3)
    monkeypatch.setattr(spectrum, "FINER", spectrum.FINER[:1])


def figures(value):
    """The tensors and numbers in what a node gives, in order, on the CPU."""
    if isinstance(value, torch.Tensor):
        return [value.detach().cpu().double()]
    if isinstance(value, float):
        return [torch.tensor(value, dtype=torch.float64)]
    if isinstance(value, dict):
        return [f for part in value.values() for f in figures(part)]
    if isinstance(value, (tuple, list)):
        return [f for part in value for f in figures(part)]
    return []


def moved(value, device):
    """An IMAGE, a MASK or a LATENT on a device."""
    if isinstance(value, dict):
        return {**value, "samples": value["samples"].to(device)}
    return None if value is None else value.to(device)


def difference(a, b):
    """The largest difference, as a part of the largest value."""
    assert [f.shape for f in a] == [f.shape for f in b]
    largest = 0.0
    for x, y in ((x, y) for x, y in zip(a, b, strict=True) if x.numel()):
        same = (x == y) | (x.isnan() & y.isnan())  # infinite, or not measured
        scale = torch.where(x.isfinite(), x, 0).abs().max().clamp(min=1)
        largest = max(largest, (torch.where(same, 0, x - y).abs().max() / scale).item())
    return largest


EXPECTED = {}  # of a node on the CPU


def expected_of(node_id, use):
    """What it gives on the CPU, worked out once."""
    use("cpu")
    if node_id not in EXPECTED:
        EXPECTED[node_id] = figures(call(node_id, **small_inputs(node_id)))
    return EXPECTED[node_id]


@pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
def test_a_node_gives_the_same(node_id, card, use):
    expected = expected_of(node_id, use)
    use(card)
    result = figures(call(node_id, **small_inputs(node_id)))
    assert difference(expected, result) < 1e-4


@pytest.mark.parametrize("node_id", [
    name for name in NODE_CLASS_MAPPINGS if {kind for kind, *_ in inputs_of(name).values()
                                             if isinstance(kind, str)} & {*PICTURES}])
def test_pictures_may_lie_on_the_card(node_id, card, use):
    """Where ComfyUI keeps everything there (--gpu-only)."""
    expected = expected_of(node_id, use)
    use(card)
    given = small_inputs(node_id)
    for name, (kind, *_) in inputs_of(node_id).items():
        if kind in PICTURES and name in given:
            given[name] = moved(given[name], card)
    result = figures(call(node_id, **given))
    assert difference(expected, result) < 1e-4
