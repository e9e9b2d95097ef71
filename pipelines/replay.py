"""Work on a CUDA card, recorded once and played back without the cost of launching it.

At the sizes most pictures have a call of a network, or ten steps of conjugate gradients, is some
hundred kernels of a few microseconds, and the host takes longer to launch them than the card to
run them. As a CUDA graph they are launched as one, with the same bits.

A run owns its `Recordings`, so they go with it, and the memory they took with them; weights must
not move while it lasts. What cannot be recorded is launched as ever: operations that ask the card
for a number, a derivative through the network, a card with too little memory. Hooks would run when
their network is recorded, and not again: give no `ReplayedPrior` a network that has some.

On an H100 the bits were those of launched work; that no memory stays behind was not seen there
since the recordings share a stream, so no node uses this yet (`tests/cuda/test_replay.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor as derived

from ..models.prior import WrappedPrior

LARGEST = 2**19  # pixels of a batch; beyond them the work itself takes longer than its launch

Work = Callable[..., Tensor]
Replay = Callable[..., Tensor]
"""(key, work, *tensors) -> work(*tensors)."""


def launched(key: Hashable, work: Work, *tensors: Tensor) -> Tensor:
    """A `Replay` that records nothing."""
    return work(*tensors)


def recording() -> bool:
    """Whether what is launched now is being recorded, and not run: no number may be read, and no
    constant be made, which would have no values."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


@dataclass(frozen=True)
class Recording:
    """A graph, the tensors that it reads and the one that it writes."""

    graph: Any
    inputs: list[Tensor]
    output: Tensor

    def play(self, tensors: Sequence[Tensor]) -> Tensor:
        """The work done on other values, in memory of its own."""
        for held, tensor in zip(self.inputs, tensors, strict=True):
            held.copy_(tensor)
        self.graph.replay()
        return self.output.clone()


class State(Enum):
    """Of work that has no recording."""

    LAUNCHED = "once, which made its constants; recorded the next time"
    REFUSED = "cannot be recorded"


@dataclass(eq=False)
class Recordings:
    """A `Replay` on a CUDA card.

    Work is launched the first time, recorded the second, and played back from then on. It must
    do the same for the same key, with whatever else it reads where it was.
    """

    known: dict[Hashable, State | Recording] = field(default_factory=dict)
    pool: Any = None

    def __call__(self, key: Hashable, work: Work, *tensors: Tensor) -> Tensor:
        """work(*tensors); shapes and number formats belong to the key."""
        first = tensors[0]
        if not first.is_cuda or first[:, :1].numel() > LARGEST or any(map(derived, tensors)):
            return work(*tensors)
        key = (key, *((t.shape, t.dtype) for t in tensors))
        found = self.known.get(key)
        if found is None:
            self.known[key] = State.LAUNCHED
            with beside(first.device):
                return work(*tensors)
        if found is State.LAUNCHED:
            found = self.known[key] = self.record(work, tensors)
        return found.play(tensors) if isinstance(found, Recording) else work(*tensors)

    def record(self, work: Work, tensors: Sequence[Tensor]) -> State | Recording:
        """The work as a graph."""
        graph, inputs = torch.cuda.CUDAGraph(), [tensor.clone() for tensor in tensors]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            with beside(tensors[0].device):
                graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
                try:
                    output = work(*inputs)
                finally:
                    graph.capture_end()
        except RuntimeError:  # if the work itself is at fault, it says so when it is launched
            with suppress(RuntimeError):  # a capture that fails does not give its pool back
                torch._C._cuda_endAllocateToPool(tensors[0].device.index, self.pool)
            self.pool = None
            return State.REFUSED
        return Recording(graph, inputs, output)


@cache
def stream_of(device: torch.device) -> Any:
    """The one on which work is recorded, as CUDA wants it; cuBLAS keeps memory for each stream."""
    return torch.cuda.Stream(device)


@contextmanager
def beside(device: torch.device) -> Iterator[None]:
    """A block on that stream, after all that was launched before it and before all after it."""
    own, current = stream_of(device), torch.cuda.current_stream(device)
    own.wait_stream(current)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        current.wait_stream(own)


@dataclass(frozen=True, eq=False)
class ReplayedPrior(WrappedPrior):
    """A prior whose network calls are played back."""

    replay: Replay

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's."""

        def work(x: Tensor, sigma: Tensor) -> Tensor:
            return self.prior.denoise(x, sigma, factor)

        return self.replay((self.prior, factor), work, x, sigma)
