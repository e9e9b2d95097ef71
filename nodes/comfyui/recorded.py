"""Whether a run on a card may record its work, and for how long (`pipelines/replay.py`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules import module as modules

from ...models.discrete import DiscretePrior
from ...models.pixel import PixelPrior
from ...models.prior import MeasuredPrior, MultiResolutionPrior, Prior
from ...models.registry import networks_of
from ...pipelines.replay import Recordings, Replay, ReplayedPrior, launched
from .model_weights import dynamic
from .placed_networks import PATCHER

SWITCH = "UNDEGRADE_CUDA_GRAPHS"  # "0" turns recordings off, "1" on where they were not tried
TRIED = "native"  # of torch's allocators, on NVIDIA's cards; under the other a recording that
# fails ends the process


def wanted(device: torch.device) -> bool:
    """Whether work on this device is recorded: where it was tried, unless the user says
    otherwise."""
    if device.type != "cuda":
        return False
    said = os.environ.get(SWITCH)
    if said:
        return said == "1"
    return torch.version.hip is None and torch.cuda.get_allocator_backend() == TRIED


@contextmanager
def played(prior: Prior, device: torch.device) -> Iterator[tuple[Prior, Replay]]:
    """(the prior, what plays work back) for a run, whose recordings go with the block.

    The prior's own calls are launched where its weights may move meanwhile, because ComfyUI fetches
    them for every layer.
    """
    if not wanted(device):
        yield prior, launched
        return
    recordings = Recordings()
    fetched = any(dynamic(getattr(network, PATCHER, None)) for network in networks_of(prior))
    try:
        yield (prior if fetched else replayed(prior, recordings)), recordings
    finally:
        recordings.close()


def replayed(prior: Prior, replay: Replay) -> Prior:
    """The prior with its network's calls played back, or itself where they cannot be.

    They can be of the pack's own kinds of prior, whose network is `plain`; one that cuts its state
    into tiles asks for memory between its calls.
    """
    inner = prior
    while type(inner) in (MultiResolutionPrior, MeasuredPrior):
        inner = inner.prior  # type: ignore[attr-defined]
    if type(inner) not in (PixelPrior, DiscretePrior) or not plain(inner.network):  # type: ignore[attr-defined]
        return prior
    return ReplayedPrior(prior, replay)


def plain(network: nn.Module) -> bool:
    """Whether a call of the network is its layers' kernels on one device and nothing else: no hook,
    no layer with another `forward` than its class has, nobody who watches torch's operations."""
    if modules._global_forward_hooks or modules._global_forward_pre_hooks:
        return False
    if torch._C._len_torch_dispatch_stack():
        return False
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    return len(devices) == 1 and not any(
        layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
        for layer in network.modules()
    )
