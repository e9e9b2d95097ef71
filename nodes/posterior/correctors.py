"""The correctors that run beside a sampler, where somebody reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...pipelines.schedule import Schedule
from ...pipelines.subdaps.corrector import COEFFICIENTS, Corrector

SAMPLER, SLOT = "UndegradePosteriorSampler", 1  # whose trajectory it is, and among its outputs


def correctors_of(schedule: Schedule) -> list[Corrector]:
    """One for each kind of coefficients; a single one where no level was rounded, as they agree."""
    rounded = not torch.equal(schedule.sigmas[:-1], schedule.grid)
    return [Corrector(name) for name in (COEFFICIENTS if rounded else COEFFICIENTS[:1])]


def read_in(graph: dict[str, Any] | None) -> bool:
    """Whether anything in ComfyUI's graph reads the trajectory of any Posterior Sampler; which one
    it is is not asked, since ComfyUI runs what asks for its id again where that changes, as in a
    new subgraph. Yes where the graph has none: another node made this one."""
    nodes = graph or {}
    ours = [[i, SLOT] for i, node in nodes.items() if node.get("class_type") == SAMPLER]
    given = [value for node in nodes.values() for value in (node.get("inputs") or {}).values()]
    return not ours or any(link in given for link in ours)


def states_of(correctors: list[Corrector]) -> dict[str, Tensor] | None:
    """Their states on the CPU, by kind of coefficients; of a single one for both."""
    states = []
    for corrector in correctors:
        states.append(corrector.x_vp.cpu())
    if not states:
        return None
    return dict(zip(COEFFICIENTS, states * (len(COEFFICIENTS) // len(states)), strict=True))
