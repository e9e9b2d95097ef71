"""Several pictures at a time, sharing each network call.

Every picture runs the whole workflow in a thread of its own, but only one thread runs at a time:
each goes on until it asks the prior, and when all have asked, the rows of all questions of one kind
go through the network together. So every other node sees one picture, as it would alone.

The last bits of a network's answer depend on how many rows a call has, since libraries choose their
kernels by it. Hence every call has the same number of rows, short ones being filled up. At some
numbers they also depend on a row's place in the call, and with some networks on the other rows;
hence a number is tried on each size of picture before it is used. So a picture's file does not
depend on its company.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from ...models.prior import WrappedPrior
from .footprint import Footprint

GIB = 2**30


@dataclass(eq=False)
class Task:
    """One picture's thread, and the question it waits for an answer to."""

    work: Callable[[], Any]
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    rest: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    question: tuple["SharedPrior", Tensor, Tensor, int] | None = None
    answer: Tensor | BaseException | None = None
    result: Any = None

    def run(self) -> None:
        """The thread: wait for the first turn, work, and hand back."""
        self.turn.acquire()
        try:
            if isinstance(self.answer, BaseException):
                raise self.answer
            self.result = self.work()
        except BaseException as error:  # handed to the caller of `run_together`
            self.result = error
        self.rest.release()

    def go_on(self) -> None:
        """Let it run until it asks or ends."""
        self.question = None
        self.turn.release()
        self.rest.acquire()

    def ask(self, *question: Any) -> Tensor:
        """In the task's own thread: hand over the question, come back with the answer."""
        self.question = question  # type: ignore[assignment]
        self.rest.release()
        self.turn.acquire()
        answer, self.answer = self.answer, None
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Tensor)
        return answer


_here = threading.local()


def run_together(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Run functions in lockstep.

    Returns:
        What each returned, or the exception it raised.
    """
    tasks = [Task(work) for work in works]
    for task in tasks:
        threading.Thread(target=_enter, args=(task,), daemon=True).start()
    ready = tasks
    try:
        while ready:
            for task in ready:
                task.go_on()
            ready = [task for task in tasks if task.question]
            answer_all(ready)
    except BaseException as stop:
        for task in tasks:  # leave no thread behind that waits for ever
            task.answer = stop
            task.turn.release()
        raise
    return [task.result for task in tasks]


def _enter(task: Task) -> None:
    _here.task = task
    task.run()


def answer_all(tasks: Sequence[Task]) -> None:
    """Answer every question, those of one kind together."""
    kinds: dict[Hashable, list[Task]] = defaultdict(list)
    for task in tasks:
        assert task.question
        prior, x, _, factor = task.question
        kinds[id(prior), x.shape[1:], x.dtype, x.device, factor].append(task)
    for alike in kinds.values():
        prior, _, _, factor = alike[0].question  # type: ignore[misc]
        states, sigmas = zip(*(task.question[1:3] for task in alike if task.question), strict=True)
        try:
            rows = prior.denoise_rows(torch.cat(states), torch.cat(sigmas), factor)
        except Exception as error:  # each picture reports it as its own
            for task in alike:
                task.answer = error
        else:
            for task, part in zip(alike, rows.split([len(s) for s in states]), strict=True):
                task.answer = part


@dataclass(frozen=True, eq=False)
class SharedPrior(WrappedPrior):
    """A prior that pictures in lockstep ask together.

    Args:
        prior: who answers.
        together: rows of every call, or half as many, and so on, where a row's answer depends on
            its place or on the other rows; 1 if it always does.
        memory: GiB that a call may take; large pictures go in calls of fewer rows, as many as fit.
    """

    together: int
    memory: float
    _rows: dict[Hashable, int] = field(default_factory=dict)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's, with the other pictures' where the thread is in lockstep.

        A state under ``torch.func`` (a gradient through the network) cannot leave its thread and
        is answered alone.
        """
        task: Task | None = getattr(_here, "task", None)
        if task is None or is_functorch_wrapped_tensor(x):
            return self.prior.denoise(x, sigma, factor)
        return task.ask(self, x, sigma, factor)

    @torch.no_grad()
    def denoise_rows(self, x: Tensor, sigma: Tensor, factor: int) -> Tensor:
        """Every row, in calls of one size; rows that fill up the last one are dropped."""
        rows = self._rows_per_call(x[:1], sigma[:1], factor)
        count = len(x)
        missing = -count % rows
        if missing:
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
            sigma = torch.cat([sigma, sigma[-1:].expand(missing)])
        parts = zip(x.split(rows), sigma.split(rows), strict=True)
        return torch.cat([self.prior.denoise(a, s, factor) for a, s in parts])[:count]

    def _rows_per_call(self, x: Tensor, sigma: Tensor, factor: int) -> int:
        """How many rows of the kind of ``x`` go into a call; the same in every worker."""
        key = (x.shape, x.dtype, factor)
        if key not in self._rows:
            with Footprint() as footprint:
                self.prior.denoise(x, sigma, factor)
            rows = min(self.together, int(self.memory * GIB / max(footprint.peak, 1)))
            while rows > 1 and not self._is_independent(x, sigma, factor, rows):
                rows //= 2
            self._rows[key] = max(1, rows)
        return self._rows[key]

    def _is_independent(self, x: Tensor, sigma: Tensor, factor: int, rows: int) -> bool:
        """Whether a row's answer is the same at every place and beside any others, bit for bit."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(2 * rows - 1, *x.shape[1:], generator=generator).to(x)
        levels = torch.linspace(0.1, 2.0, 2 * rows - 1).to(sigma)
        same = self.prior.denoise(noise[:1].repeat(rows, 1, 1, 1), levels[:1].repeat(rows), factor)
        mixed = self.prior.denoise(noise[:rows], levels[:rows], factor)
        moved = torch.cat([noise[rows:], noise[:1]]), torch.cat([levels[rows:], levels[:1]])
        last = self.prior.denoise(*moved, factor)[-1]
        return all(torch.equal(row, mixed[0]) for row in (*same, last))
