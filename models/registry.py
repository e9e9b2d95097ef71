"""Detect and load a prior from its tensors, never from its file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from . import adm, ddpm, pixel
from .diffusers_folder import load_pixel_folder, pipeline_folder
from .known_files import PRIORS, known_in
from .prior import Prior
from .weights import UnsupportedWeightsError, read_tensors

EMBEDDED = Path(__file__).parent / "embedded"
BUILT_IN = EMBEDDED / "prior_v1.safetensors"

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """One kind of weight file.

    detect: whether these tensors are of this kind. load: (tensors, metadata, name) -> Prior in
    float32.
    """

    name: str
    detect: Callable[[Tensors], bool]
    load: Callable[[Tensors, dict[str, str], str], Prior]


ARCHITECTURES = (
    Architecture("Undegrade pixel prior", pixel.detect, pixel.load),
    Architecture("ADM (guided diffusion)", adm.detect, adm.load),
    Architecture("DDPM (diffusers' UNet2DModel)", ddpm.detect, ddpm.load),
)


def load_pixel_prior(path: str | Path, dtype: torch.dtype = torch.float32) -> Prior:
    """The prior in a weight file or a diffusers folder, on the CPU, in evaluation mode, its network
    in `dtype`. A weight file that lies in a diffusers folder is read as that folder says.

    Raises `FileNotFoundError`, or `UnsupportedWeightsError` when the file is broken or of no
    known kind.
    """
    path = Path(path)
    if folder := path if path.is_dir() else pipeline_folder(path):
        return load_pixel_folder(folder, dtype)
    tensors, metadata = read_tensors(path)
    for architecture in ARCHITECTURES:
        if architecture.detect(tensors):
            prior = architecture.load(tensors, metadata, path.name)
            for network in networks_of(prior):
                torch.nn.Module.to(network, dtype)  # diffusers' own `to` warns
                network.requires_grad_(False).eval()
            return prior
    known = ", ".join(architecture.name for architecture in ARCHITECTURES)
    some = ", ".join(list(tensors)[:3])
    raise UnsupportedWeightsError(
        f"{path.name} has {len(tensors)} tensors ({some}, ...) of no architecture known here "
        f"({known}); choose a pixel-space diffusion prior such as {', '.join(known_in(PRIORS))}."
    )


def innermost(prior: Prior) -> Prior:
    """The prior inside all wrappers."""
    while hasattr(prior, "prior"):
        prior = prior.prior  # type: ignore[attr-defined]
    return prior


def networks_of(prior: Prior) -> list[torch.nn.Module]:
    """The networks of a prior, inside its wrappers, and of its codec; none for a closed form."""
    inner = innermost(prior)
    owners = (inner, inner.codec)
    return [owner.network for owner in owners if hasattr(owner, "network")]  # type: ignore[attr-defined]
