"""Whether a run on a card may record its work, and for how long (`pipelines/replay.py`)."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch

from ...models.discrete import DiscretePrior
from ...models.pixel import PixelPrior
from ...models.prior import MeasuredPrior, MultiResolutionPrior, Prior
from ...models.registry import networks_of
from ...pipelines.replay import Recordings, Replay, ReplayedPrior, launched
from .kept import KEPT, lasting_network, plain
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
    """(the prior, what plays work back) for a run, whose recordings go with the block, but for
    calls of the prior that may be `kept`.

    The prior's own calls are launched where its weights may move meanwhile, because ComfyUI fetches
    them for every layer.
    """
    if not wanted(device):
        yield prior, launched
        return
    recordings = Recordings()
    fetched = any(dynamic(getattr(network, PATCHER, None)) for network in networks_of(prior))
    inner = inside(prior)
    network = None if fetched else lasting_network(inner)
    try:
        with KEPT.lent(network) as kept:
            if fetched:
                quick = prior
            elif kept:
                quick = replayed(prior, kept, (PixelPrior, inner.sigma_data))  # type: ignore[attr-defined]
            else:
                quick = replayed(prior, recordings)
            yield quick, recordings
    finally:
        recordings.close()


def inside(prior: Prior) -> Prior:
    """What the wrappers around it call as it is."""
    while type(prior) in (MultiResolutionPrior, MeasuredPrior):
        prior = prior.prior  # type: ignore[attr-defined]
    return prior


def replayed(prior: Prior, replay: Replay, key: Hashable = None) -> Prior:
    """The prior with its network's calls played back, or itself where they cannot be.

    They can be of the pack's own kinds of prior, whose network is `plain`; one that cuts its state
    into tiles asks for memory between its calls.
    """
    inner = inside(prior)
    if type(inner) not in (PixelPrior, DiscretePrior) or not plain(inner.network):  # type: ignore[attr-defined]
        return prior
    return ReplayedPrior(prior, replay, key)
