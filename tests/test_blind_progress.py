"""Estimate Blur Kernel's bar."""

from test_blind import estimated, shapes, walk

from undegrade.nodes.comfyui import host
from undegrade.pipelines.blind.blur_estimate import work
from undegrade.pipelines.blind.blur_options import BlurOptions


def test_the_bar_ends_full(monkeypatch):
    bars = []
    monkeypatch.setattr(host, "_sink", lambda *told: bars.append(told[1:]))
    estimated(shapes(36), walk(5), kernel_size=5, kind="Gaussian")
    calls = work(BlurOptions(kernel_size=5, kind="Gaussian"))
    assert bars[-1] == (calls, calls) and (calls - 1, calls) in bars, "no rounds of refining"
