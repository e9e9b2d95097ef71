"""Detect and load a noise predictor from its tensors, never from its file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import noise_predictor, pixel_predictor
from .registry import EMBEDDED
from .weights import UnsupportedWeightsError, read_tensors

BUILT_IN_PREDICTOR = EMBEDDED / "predictor_v4.safetensors"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class PredictorArchitecture:
    """One kind of predictor file.

    detect: whether these tensors are of this kind. load: (tensors, metadata, name) -> what conforms
    to `pipelines.invsr.start_noise.StartNoise`, in float32, with its network as `network`.
    """

    name: str
    detect: Callable[[Tensors], bool]
    load: Callable[[Tensors, dict[str, str], str], Any]


PREDICTORS = (
    PredictorArchitecture(
        "Undegrade pixel predictor", pixel_predictor.detect, pixel_predictor.load
    ),
    PredictorArchitecture("InvSR noise predictor", noise_predictor.detect, noise_predictor.load),
)


def load_noise_predictor(path: str | Path, dtype: torch.dtype = torch.float32) -> Any:
    """The predictor in a weight file, on the CPU, in evaluation mode, its network in `dtype`.

    Raises `FileNotFoundError`, or `UnsupportedWeightsError` when the file is broken or of no known
    kind.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    for architecture in PREDICTORS:
        if architecture.detect(tensors):
            predictor = architecture.load(tensors, metadata, path.name)
            torch.nn.Module.to(predictor.network, dtype)  # diffusers' own `to` warns
            predictor.network.requires_grad_(False).eval()
            return predictor
    known = ", ".join(architecture.name for architecture in PREDICTORS)
    some = ", ".join(list(tensors)[:3])
    raise UnsupportedWeightsError(
        f"{path.name} has {len(tensors)} tensors ({some}, ...) of no noise predictor known here "
        f"({known}); choose {noise_predictor.PUBLISHED}."
    )
