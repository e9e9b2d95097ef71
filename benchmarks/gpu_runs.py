"""Runs of nodes as ComfyUI makes them, on a card or without one, for `gpu.py`."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import pack  # noqa: F401  (makes `undegrade` importable)
import torch
from tasks import NOISE

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.nodes.comfyui.recorded import SWITCH
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.subdaps.options import SamplerOptions


@dataclass
class Asked:
    """Where and how large everything is."""

    device: torch.device
    small: bool
    steps: int
    photos: int
    sizes: list[str]
    channels: int


Row = tuple[Any, ...]
"""(work, seconds, waits a step, peak in MiB, dB, anything else); None for what is not known."""


@contextmanager
def recordings(allowed: bool) -> Iterator[None]:
    """A block in which the nodes record their work, or do not."""
    before = os.environ.get(SWITCH)
    os.environ[SWITCH] = "1" if allowed else "0"
    try:
        yield
    finally:
        os.environ.pop(SWITCH)
        if before is not None:
            os.environ[SWITCH] = before


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds, with what the card still had to do."""
    on_cuda = device.type == "cuda"
    if on_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if on_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def waits_of(work: Callable[[], Any]) -> int:
    """How often torch made the host wait for the card."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in seen)


def sampled(prior: Prior, m: Measurement, **options: Any) -> torch.Tensor:
    """The Posterior Sampler's defaults but for the options, called as ComfyUI does: an IMAGE."""
    sampler = NODE_CLASS_MAPPINGS["UndegradePosteriorSampler"]()
    others = {name: options.pop(name) for name in ("update", "switch") if name in options}
    with torch.inference_mode():
        chosen = asdict(SamplerOptions(**options))
        return sampler.sample(prior, m, 0, 1, False, **others, **chosen)["result"][0]


def built_in(precision: str) -> Prior:
    """The built-in prior at three resolutions, from its node."""
    with torch.inference_mode():
        loader = NODE_CLASS_MAPPINGS["UndegradeLoadPixelPrior"]()
        return MultiResolutionPrior(loader.load("built-in", precision)[0])


def measured(height: int, width: int, operator: Operator) -> Measurement:
    """Of a random picture."""
    truth = 0.4 * per_sample_noise([0])(torch.zeros(1, 3, height, width))
    return simulate(truth, operator, NOISE, per_sample_noise([1]))


def ways(asked: Asked) -> list[tuple[str, bool]]:
    """How work reaches the device: (title, whether it is recorded)."""
    cuda = asked.device.type == "cuda"
    return [("played back", True), ("launched", False)] if cuda else [("launched", False)]


def figures(
    asked: Asked, prior: Prior, m: Measurement, steps: int, tries: int = 2, **options: Any
) -> Row:
    """(seconds, the best of some tries; waits a step between steps 12 and 18; peak; None)."""

    def run(count: int = steps) -> torch.Tensor:
        return sampled(prior, m, steps=count, **options)

    run(min(steps, 9))  # constants and kernels
    if asked.device.type != "cuda":
        return seconds_of(run, asked.device), None, None, None
    waits = None
    if tries > 1:
        waits = (waits_of(lambda: run(18)) - waits_of(lambda: run(12))) / 6
    torch.cuda.reset_peak_memory_stats()
    seconds = min(seconds_of(run, asked.device) for _ in range(tries))
    return seconds, waits, torch.cuda.max_memory_allocated() / 2**20, None
