"""Quality without a reference, R^N, for the region entropy regressor to learn the rise of.

"latent" is `adadiffsr.quality_maps.no_reference`, block by block and without weights. The others
are the paper's, one number for a whole tile, which all its blocks then share:

    musiq           m / 100
    brisque         1 - b / 100, and 0 for a tile so flat that BRISQUE has no value
    musiq+brisque   their mean

clipped to [0, 1]. They are those of pyiqa, which is not part of this pack and never needed: its
licence, PolyForm Noncommercial 1.0.0, allows no commercial use, and neither do the weights it
downloads on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..pipelines.adadiffsr import quality_maps

KINDS = ("latent", "musiq", "brisque", "musiq+brisque")
NON_COMMERCIAL = "non-commercial: learnt from metrics of pyiqa (PolyForm Noncommercial 1.0.0)"
TOGETHER = 16  # pictures that a metric is given at once

Quality = Callable[[Tensor, Tensor], Tensor]
"""(states (N, C, h, w), pictures (N, 3, H, W) near [-1, 1]) -> R^N, (N, h / 8, w / 8)."""


def quality_of(kind: str, device: torch.device) -> Quality:
    """R^N by one of `KINDS`. Raises `ImportError` for the paper's where pyiqa is not installed."""
    if kind == "latent":
        return lambda states, _: quality_maps.no_reference(states)
    try:
        import pyiqa  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            f"no_reference is {kind} and pyiqa is not there; install it with pip install pyiqa "
            "(PolyForm Noncommercial: no commercial use), or choose latent."
        ) from error
    metrics = {name: pyiqa.create_metric(name, device=device) for name in kind.split("+")}

    def measured(states: Tensor, pixels: Tensor) -> Tensor:
        unit = (pixels.clamp(-1, 1) + 1) / 2
        parts = [scored(name, metric, unit) for name, metric in metrics.items()]
        rows, columns = (side // quality_maps.BLOCK for side in states.shape[-2:])
        return torch.stack(parts).mean(0)[:, None, None].expand(-1, rows, columns)

    return measured


def scored(name: str, metric: Any, unit: Tensor) -> Tensor:
    """A metric of pictures (N, 3, H, W) in [0, 1], as a quality in [0, 1], (N,)."""
    scores = torch.cat([metric(part).flatten() for part in unit.split(TOGETHER)]).float() / 100
    quality = 1 - scores if name == "brisque" else scores
    return quality.nan_to_num(0.0).clamp(0, 1)


def named(kind: str) -> str:
    """The metrics of a regressor's training, in words."""
    full, latent = quality_maps.METRICS.split("; ")
    return f"{full}; {latent if kind == 'latent' else kind.upper().replace('+', ' and ')}"
