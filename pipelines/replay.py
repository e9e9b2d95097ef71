"""Work on a CUDA card, recorded once and played back without the cost of launching it.

At the sizes most pictures have a call of a network, or ten steps of conjugate gradients, is some
hundred kernels of a few microseconds, and the host takes longer to launch them than the card to
run them. As a CUDA graph they are launched as one, with the same bits.

A run owns its `Recordings`; `close` gives back what they took. Weights must not move meanwhile.
Those that outlive a run are `nodes/comfyui/kept.py`'s.
What cannot be recorded is launched as ever: operations that ask the card for a number, a derivative
through the network, a card with too little memory. Hooks would run when their network is recorded,
and not again: give no `ReplayedPrior` a network that has some.

What stays behind is cuBLAS's memory for the stream that recordings are made on, as it has for every
stream; a process takes it once. Graphs may write to it when they are played, and torch 2.13 frees
it as soon as any graph goes that was recorded on that stream (pytorch/pytorch issue 193402): so
those of one stream go together, and those that outlive a run have a stream apart.
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
SPARED = 0.15  # of the card's memory, which recordings leave free

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
        torch._foreach_copy_(self.inputs, [*tensors])  # one kernel for all
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

    lasting: they outlive runs, on a stream apart from those that go with one.
    """

    lasting: bool = False
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
            with beside(first.device, self.lasting):
                done = work(*tensors)
            self.known[key] = State.LAUNCHED
            return done
        if found is State.LAUNCHED:
            found = self.known[key] = self.record(work, tensors)
        return found.play(tensors) if isinstance(found, Recording) else work(*tensors)

    def record(self, work: Work, tensors: Sequence[Tensor]) -> State | Recording:
        """The work as a graph, where it can be one and leaves enough memory."""
        device = tensors[0].device
        graph, inputs = torch.cuda.CUDAGraph(), [tensor.clone() for tensor in tensors]
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        try:
            with beside(device, self.lasting):
                output = captured(graph, self.pool, work, inputs)
        except RuntimeError:  # if the work itself is at fault, it says so when it is launched
            return self.refused()
        free, total = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        spared = free + unused > SPARED * total
        return Recording(graph, inputs, output) if spared else self.refused()

    def refused(self) -> State:
        """What is said of the work. Its graph goes, so all others do (see this file's head), and
        are recorded anew when they are asked for."""
        self.known = {key: s for key, s in self.known.items() if s is State.REFUSED}
        self.pool = None
        return State.REFUSED

    def rest(self) -> None:
        """Until another run: what was not recorded in this one begins anew in that."""
        self.known = {key: s for key, s in self.known.items() if not isinstance(s, State)}

    @property
    def held(self) -> int:
        """Bytes of the pool, which the recordings alone can use. Most lie idle between two plays:
        torch counts those as reserved and not as active, as it does what is free for everybody.
        Raises `RuntimeError` under an allocator that has no pools."""
        parts = torch.cuda.memory_snapshot()
        return sum(p["total_size"] for p in parts if p["segment_pool_id"] == self.pool)

    def close(self) -> None:
        """Give the memory back. Work that is asked for afterwards begins anew."""
        self.known.clear()
        self.pool = None


def captured(graph: Any, pool: Any, work: Work, inputs: Sequence[Tensor]) -> Tensor:
    """What the work writes, as the graph's. Raises what the work raises, an interrupt above all,
    and `RuntimeError` where a graph cannot hold what was launched."""
    device = inputs[0].device
    graph.capture_begin(pool=pool, capture_error_mode="thread_local")
    try:
        output = work(*inputs)
    except BaseException:
        with suppress(RuntimeError):
            inputs[0].clone()  # torch warns of a graph that has nothing in it
            end(graph, pool, device)
        raise
    end(graph, pool, device)
    return output


def end(graph: Any, pool: Any, device: torch.device) -> None:
    """End a capture. Where that fails torch would go on to take memory from the pool, keep it, and
    count the card's random numbers as a graph's until one is whole: that is mended first."""
    try:
        graph.capture_end()
    except RuntimeError:
        for back in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
            with suppress(RuntimeError, AttributeError, TypeError):
                getattr(torch._C, back)(device.index, pool)
        with suppress(RuntimeError):
            whole = torch.cuda.CUDAGraph()
            whole.capture_begin(capture_error_mode="thread_local")
            torch.zeros(1, device=device)
            whole.capture_end()
        raise


@cache
def stream_of(device: torch.device, lasting: bool) -> Any:
    """The one on which work is recorded, as CUDA wants it; cuBLAS keeps memory for each stream.

    Torch has 32 of every priority and gives them out in turn, to everybody: of one priority the two
    could be the same."""
    return torch.cuda.Stream(device, priority=-1 if lasting else 0)


@contextmanager
def beside(device: torch.device, lasting: bool = False) -> Iterator[None]:
    """A block on that stream, after all that was launched before it and before all after it."""
    own, current = stream_of(device, lasting), torch.cuda.current_stream(device)
    own.wait_stream(current)
    try:
        with torch.cuda.stream(own):
            yield
    finally:
        current.wait_stream(own)


@dataclass(frozen=True, eq=False)
class ReplayedPrior(WrappedPrior):
    """A prior whose network calls are played back.

    key: what a call follows from beside its network and its arguments; the prior itself where that
    is not known.
    """

    replay: Replay
    key: Hashable = None

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's."""

        def work(x: Tensor, sigma: Tensor) -> Tensor:
            return self.prior.denoise(x, sigma, factor)

        return self.replay((self.key or self.prior, factor), work, x, sigma)
