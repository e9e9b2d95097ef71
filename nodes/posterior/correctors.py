"""The correctors that run beside a sampler, where somebody reads them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...pipelines.schedule import Schedule
from ...pipelines.subdaps.corrector import COEFFICIENTS, Corrector

SLOT = 1  # Posterior Sampler's trajectory among its outputs


def correctors_of(schedule: Schedule) -> list[Corrector]:
    """One for each kind of coefficients; a single one where no level was rounded, as they agree."""
    rounded = not torch.equal(schedule.sigmas[:-1], schedule.grid)
    return [Corrector(name) for name in (COEFFICIENTS if rounded else COEFFICIENTS[:1])]


def read_in(graph: dict[str, Any] | None, node: str) -> bool:
    """Whether anything in ComfyUI's graph reads this node's trajectory; yes where it is not known:
    a node that another one made is not in it."""
    if not graph or node not in graph:
        return True
    trajectory = [node, SLOT]
    return any(trajectory in other["inputs"].values() for other in graph.values())


def states_of(correctors: list[Corrector]) -> dict[str, Tensor] | None:
    """Their states on the CPU, by kind of coefficients; of a single one for both."""
    states = []
    for corrector in correctors:
        states.append(corrector.x_vp.cpu())
    if not states:
        return None
    return dict(zip(COEFFICIENTS, states * (len(COEFFICIENTS) // len(states)), strict=True))
