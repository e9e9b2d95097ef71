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


@dataclass(eq=False)
class Finite:
    """Whether the predictions of a run are finite: on the CPU told at once, on CUDA by the time of
    the second prediction after, elsewhere at the end."""

    pending: list[tuple[Answer, float]] = field(default_factory=list)

    def check(self, x0_hat: Tensor, sigma: float, last: bool) -> None:
        """Take the next prediction, (B, C, h, w), made at noise level sigma; of the last one the
        answer is waited for.

        Raises `FloatingPointError` where it, or one before, has NaN or infinite values.
        """
        finite = torch.isfinite(x0_hat).flatten(1).all(1)
        if finite.device.type == "cpu":
            check(finite, sigma)
            return
        self.pending.append((asked(finite), sigma))
        if finite.is_cuda and len(self.pending) > LATER:
            answer, then = self.pending.pop(0)
            check(answer.get(), then)
        if last:
            self.end()

    def end(self) -> None:
        """Hear of all. Raises `FloatingPointError` as `check` does."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        if pending[-1][0].event:
            pending[-1][0].event.synchronize()
        for finite, (_, sigma) in zip(
            torch.stack([answer.values for answer, _ in pending]).cpu(), pending, strict=True
        ):
            check(finite, sigma)


def check(finite: Tensor, sigma: float | Tensor) -> None:
    """Raise `FloatingPointError` unless all samples are; (B,) on the CPU, sigma one or (B,)."""
    if not finite.all():
        levels = torch.as_tensor(sigma, dtype=torch.float64).expand(len(finite))
        raise FloatingPointError(
            f"The prior predicted NaN or infinite values at noise level "
            f"{levels[~finite][0].item():.4g}; choose float32 for the prior, or another weight "
            "file."
        )
