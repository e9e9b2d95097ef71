"""Networks of the pack's own under ComfyUI's memory management."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from .kept import KEPT

PATCHER = "_undegrade_patcher"  # a network keeps its own, so that both go when nobody has it


class Placed(torch.nn.Module):
    """A network as ModelPatcher takes it, which sets a `device` where those of diffusers have a
    property."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network


@cache
def throwing_away(kind: type) -> Any:
    """A kind of patcher that throws away what is `KEPT` before ComfyUI places a network's weights,
    takes some or all of them away, or puts others in their places.

    Its callbacks do not tell: it calls `detach`, which moves nothing then, at every load of what is
    loaded, and none when it unloads a part.
    """

    class Patcher(kind):  # type: ignore[valid-type, misc]
        def load(self, *given: Any, **named: Any) -> Any:
            KEPT.throw_away()
            return super().load(*given, **named)

        def partially_unload(self, *given: Any, **named: Any) -> Any:
            KEPT.throw_away()
            return super().partially_unload(*given, **named)

        def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> Any:
            if unpatch_weights:
                KEPT.throw_away()
            return super().unpatch_model(device_to, unpatch_weights)

    return Patcher


def patcher_of(
    patching: Any, network: torch.nn.Module, load_device: torch.device, offload_device: torch.device
) -> Any:
    """ComfyUI's ModelPatcher of a network of torch's layers, of the kind that its own get.

    patching: the module comfy.model_patcher.
    """
    kind = throwing_away(getattr(patching, "CoreModelPatcher", patching.ModelPatcher))
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
