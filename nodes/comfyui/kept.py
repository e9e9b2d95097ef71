"""Recordings (`pipelines/replay.py`) of the pack's own pixel network that outlive a run, so that
the next seed, picture of a list or file of a batch is played back from its first step on.

Those of one network in the process: the last that ran to its end. What they read is its weights
where these lie, so they are lent to a run only while `read_by` says the same as before, and go

- when ComfyUI places, moves or frees any network of the pack's, or asks them for memory
  (`placed_networks.py`), when the network itself goes, and at the process's end;
- when a run with them fails or is cancelled, or its weights have moved in it;
- when they take more than `MOST_BYTES`, or are more than `MOST`.

Not kept: calls of priors of other kinds, whose calls read more than a network (DiscretePrior's read
a table of the prior's), and updates, whose constants are a measurement's.

What they take is hidden from ComfyUI, which counts a pool's idle memory as free; it leaves 400 MiB
of a card to whom it does not know, and these stay below a third of it. They are not in the sizes
that ComfyUI asks a patcher for: it compares those with what it loads and unloads itself.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as modules

from ...models.pixel import Block, PixelNetwork, PixelPrior
from ...models.prior import Prior
from ...pipelines.replay import Recordings, recording

MOST_BYTES = 128 * 2**20
MOST = 16
LAYERS = {PixelNetwork, Block, nn.Conv2d, nn.Linear, nn.SiLU, nn.Sequential, nn.ModuleList}
SHORTER = (  # sums of half precision, which nodes of others choose for models of theirs
    "allow_fp16_accumulation",
    "allow_fp16_reduced_precision_reduction",
    "allow_bf16_reduced_precision_reduction",
)
CLEARS = "torch._inductor.cudagraph_trees"  # frees cuBLAS's memory of every stream


def lasting_network(prior: Prior) -> PixelNetwork | None:
    """The prior's network, where a call reads nothing that does not live as long."""
    own = type(prior) is PixelPrior and type(prior.network) is PixelNetwork
    return prior.network if own else None  # type: ignore[attr-defined]


def read_by(network: nn.Module) -> tuple[Any, ...] | None:
    """All that a recording of the network's calls depends on: every tensor's place and form, the
    layers, the thread, whose memory of cuBLAS's it is, and how torch was told to compute. None
    where one must not last: a call does more than these layers do, or others free that memory."""
    layers = {type(layer) for layer in network.modules()}
    if not (layers <= LAYERS and plain(network)) or CLEARS in sys.modules:
        return None
    tensors = [*network.named_parameters(), *network.named_buffers()]
    where = [
        (name, t.data_ptr(), t.shape, t.stride(), t.dtype, t.device, type(t)) for name, t in tensors
    ]
    return *where, str(network), threading.current_thread(), *chosen()


def chosen() -> tuple[Any, ...]:
    """How torch was told to compute, where `wall.repeatable` does not tell it."""
    return (
        torch.backends.cudnn.enabled,
        torch.is_autocast_enabled("cuda"),
        torch.get_autocast_dtype("cuda"),
        torch.get_default_dtype(),
        *(getattr(torch.backends.cuda.matmul, name) for name in SHORTER),
    )


@dataclass(eq=False)
class Kept:
    """The recordings of one network, which one run at a time has.

    read: what `read_by` said of it when they were made; owner: that network.
    """

    recordings: Recordings = field(default_factory=lambda: Recordings(lasting=True))
    read: tuple[Any, ...] | None = None
    owner: weakref.ref[nn.Module] | None = None
    taken: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def lent(self, network: nn.Module | None) -> Iterator[Recordings | None]:
        """The recordings for a run of this network; None where they must not last, or another run
        has them. Those of anything else are thrown away first."""
        if network is None or not self.taken.acquire(blocking=False):
            yield None
            return
        try:
            read = read_by(network)
            if read is None or read != self.read:
                self.close()
            known = set(self.recordings.known)
            yield None if read is None else self.recordings
            self.recordings.rest()
            new = bool(self.recordings.known.keys() - known)
            if read is None or read_by(network) != read or (new and self.large):
                self.close()
            else:
                self.read, self.owner = read, weakref.ref(network, self.throw_away)
        except BaseException:
            self.close()
            raise
        finally:
            self.taken.release()

    @property
    def large(self) -> bool:
        """Whether they take too much for nobody's use, or what they take cannot be told, as under
        the allocator cudaMallocAsync."""
        try:
            return len(self.recordings.known) > MOST or self.recordings.held > MOST_BYTES
        except RuntimeError:
            return True

    def close(self) -> None:
        """Give the memory back."""
        self.recordings.close()
        self.read = self.owner = None

    def throw_away(self, _: object = None) -> None:
        """`close` from anywhere. A run that has them looks for itself; and no graph may go while
        this thread records another."""
        if recording() or not self.taken.acquire(blocking=False):
            return
        try:
            self.close()
        finally:
            self.taken.release()


KEPT = Kept()
atexit.register(KEPT.throw_away)  # while CUDA's driver is still there


def plain(network: nn.Module) -> bool:
    """Whether a call of the network is its layers' kernels on one device and nothing else: no hook,
    no layer with another `forward` than its class has, nobody who watches torch's operations."""
    if modules._global_forward_hooks or modules._global_forward_pre_hooks:
        return False
    if torch._C._len_torch_dispatch_stack():
        return False
    devices = {tensor.device for tensor in (*network.parameters(), *network.buffers())}
    return len(devices) == 1 and not any(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or {"forward", "_conv_forward"} & vars(layer).keys()
        for layer in network.modules()
    )
