"""Networks of the pack's own under ComfyUI's memory management."""

from __future__ import annotations

from typing import Any

import torch

PATCHER = "_undegrade_patcher"  # a network keeps its own, so that both go when nobody has it


class Placed(torch.nn.Module):
    """A network as ModelPatcher takes it, which sets a `device` where those of diffusers have a
    property."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network


def patcher_of(
    patching: Any, network: torch.nn.Module, load_device: torch.device, offload_device: torch.device
) -> Any:
    """ComfyUI's ModelPatcher of a network of torch's layers, of the kind that its own get.

    patching: the module comfy.model_patcher.
    """
    kind = getattr(patching, "CoreModelPatcher", patching.ModelPatcher)
    return kind(network, load_device=load_device, offload_device=offload_device)


def patchers_for(
    patching: Any, networks: list[torch.nn.Module], target: torch.device, offload: torch.device
) -> list[Any]:
    """Each network's own patcher, made where it has none for this device."""
    for network in networks:
        patcher = getattr(network, PATCHER, None)
        if patcher is None or patcher.load_device != target:
            inside = patcher.model if patcher else Placed(network)
            setattr(network, PATCHER, patcher_of(patching, inside, target, offload))
    return [getattr(network, PATCHER) for network in networks]
