"""What a card is asked for, told when it is known: the host goes on meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .replay import recording

LATER = 2  # predictions that may have been made when one is told not to be finite


@dataclass(frozen=True, eq=False)
class Answer:
    """Values on their way to the host. event: of CUDA, when they are there; None elsewhere, where
    they are still on their device."""

    values: Tensor
    event: Any = None

    def get(self) -> Tensor:
        """The values on the host, waiting for them where they are not there yet."""
        if self.event:
            self.event.synchronize()
        return self.values.cpu()


def asked(values: Tensor) -> Answer:
    """The answer, without waiting where the device is CUDA."""
    if not values.is_cuda:
        return Answer(values)
    there = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    there.copy_(values, non_blocking=True)
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(values.device))
    return Answer(there, event)


@dataclass(eq=False)
class Ended:
    """Whether no sample runs any more, asked before every step: those after the end change no bit.

    On a CUDA card it is told of the step before, so that the card always has one to do, and in a
    recording, which is the same steps every time, of none.
    """

    before: list[Answer] = field(default_factory=list)

    def __call__(self, running: Tensor) -> bool:
        """running: (B,)."""
        if recording():
            return False
        if not running.is_cuda:
            return not running.any()
        self.before.append(asked(running))
        return len(self.before) > 1 and not self.before[-2].get().any()


PREDICTED = (
    "The prior predicted NaN or infinite values at noise level {sigma}; choose float32 for the "
    "prior, or another weight file."
)


@dataclass(eq=False)
class Finite:
    """Whether what a run makes is finite: on the CPU told at once, on CUDA by the time of the
    second answer after, elsewhere at the end."""

    pending: list[tuple[Answer, float | Tensor, str]] = field(default_factory=list)

    def check(
        self, made: Tensor, sigma: float | Tensor, last: bool, sentence: str = PREDICTED
    ) -> None:
        """Take what was made next, (B, C, h, w), at noise level sigma, one or (B,); of the last one
        the answer is waited for. sentence: what is said where it is not, of the level {sigma}.

        Raises `FloatingPointError` where it, or what came before, has NaN or infinite values.
        """
        largest = made.abs().flatten(1).amax(1)  # NaN where one is, in two kernels
        if largest.device.type == "cpu":
            check(largest, sigma, sentence)
            return
        self.pending.append((asked(largest), sigma, sentence))
        if largest.is_cuda and len(self.pending) > LATER:
            answer, *then = self.pending.pop(0)
            check(answer.get(), *then)
        if last:
            self.end()

    def end(self) -> None:
        """Hear of all. Raises `FloatingPointError` as `check` does."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        if pending[-1][0].event:
            pending[-1][0].event.synchronize()
        values = [answer.values for answer, *_ in pending]
        each = torch.cat(values).cpu().split([len(largest) for largest in values])
        for largest, (_, *then) in zip(each, pending, strict=True):
            check(largest, *then)


def check(largest: Tensor, sigma: float | Tensor, sentence: str = PREDICTED) -> None:
    """Raise `FloatingPointError` unless the largest values of all samples, (B,) on the CPU, are
    finite; sigma one or (B,)."""
    finite = torch.isfinite(largest)
    if not finite.all():
        levels = torch.as_tensor(sigma, dtype=torch.float64).expand(len(finite))
        level = levels[~finite][0].item()
        raise FloatingPointError(sentence.format(sigma=f"{level:.4g}"))
