"""Training by the clock on one device: as many steps as the minutes hold, then the rate is zero.

`loop.py` counts steps, resumes and spreads over machines; here a card is kept busy instead. The
loss draws its own batches on the device, and the host waits for the card every tenth step only. On
a card the repeated parts of the network are compiled and a whole step is captured as one graph;
where either fails the run says so and goes on without. Such a run depends on the machine's speed,
so it is not resumed, and no two of them end in the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .loop import LONGEST_GRADIENT, LoopOptions
from .optimizers import optimizers
from .stopping import stop_asked

LAUNCHES = ("auto", "compiled", "captured", "plain")
TRIED = 3  # steps before a graph is captured
READ_EVERY = 10  # steps
VALIDATE_EVERY, WRITE_EVERY = 30.0, 60.0  # seconds


@dataclass(frozen=True)
class Work:
    """What is trained, and on what.

    loss: draws a batch from a generator of the device, by operations of the device alone, and gives
    the loss of `network`. validate: scores of a network. write: (network, scores, steps) -> its
    file. Both are given a copy of the network that holds the averaged weights. repeated: the class
    of the network's parts that are compiled, each shape once.
    """

    network: nn.Module
    loss: Callable[[torch.Generator], Tensor]
    validate: Callable[[nn.Module], dict[str, float]]
    write: Callable[[nn.Module, dict[str, float], int], None]
    repeated: type[nn.Module]


def device_there() -> torch.device:
    """The card, or the CPU where there is none."""
    card = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return card or torch.device("cpu")


class Stepper:
    """One step of a `Work`: gradients, optimizer, average.

    rate, keep: tensors on the device, the learning rate and what the average keeps of itself.
    """

    def __init__(self, work: Work, options: LoopOptions, device: torch.device) -> None:
        self.work, self.device, self.half = work, device, options.precision == "bf16"
        self.averaged = deepcopy(work.network).requires_grad_(False).eval()
        self.average = list(self.averaged.parameters())
        self.trained = list(work.network.parameters())
        self.rate, self.keep = torch.zeros((), device=device), torch.zeros((), device=device)
        self.optimizers = optimizers(self.trained, options.optimizer, self.rate)
        self.generator = torch.Generator(device).manual_seed(options.seed)

    def __call__(self) -> Tensor:
        """The loss, which nothing has waited for."""
        torch.backends.cudnn.benchmark = True  # shapes never change, but in a validation they do
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            loss = self.work.loss(self.generator)
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained, LONGEST_GRADIENT)
        for optimizer in self.optimizers:
            optimizer.step()
        self.forget()
        with torch.no_grad():
            torch._foreach_mul_(self.average, self.keep)
            torch._foreach_add_(self.average, torch._foreach_mul(self.trained, 1 - self.keep))
        torch.backends.cudnn.benchmark = False
        return loss.detach()

    def forget(self) -> None:
        """The gradients."""
        for weight in self.trained:
            weight.grad = None

    @torch.no_grad()
    def back_to(self, weights: list[Tensor]) -> None:
        """Weights and their average are these again, and nothing is remembered of the way."""
        for ours in (self.trained, self.average):
            torch._foreach_copy_(ours, weights)
        for optimizer in self.optimizers:
            for state in optimizer.state.values():
                torch._foreach_zero_(list(state.values()))


def train_by_clock(
    work: Work, options: LoopOptions, device: torch.device, deadline: float, launch: str = "auto"
) -> tuple[nn.Module, dict[str, float], int]:
    """Train until `deadline`, on the clock of `time.monotonic`.

    Returns the network with the averaged weights, its scores, and the steps it has seen. SIGINT and
    SIGTERM end the run as the clock does, with the weights written.
    """
    step = Stepper(work, options, device)
    started = time.monotonic()
    step.rate.fill_(options.rate / max(1, options.warm_up))
    run, done = launched(step, launch)
    first = time.monotonic()
    said(f"{done} steps in {first - started:.1f} s; {deadline - first:.0f} s are left")
    losses: list[Tensor | float] = []
    validated, written, seen = first, first, done
    safe, highest = [weight.clone() for weight in step.average], options.rate
    with stop_asked() as stopping:
        while (now := time.monotonic()) < deadline and not stopping:
            step.rate.fill_(highest * rate_share(done, options.warm_up, first, now, deadline))
            step.keep.fill_(min(options.average, (1 + done) / (10 + done)))
            loss = run()
            done += 1
            if done % READ_EVERY:
                continue
            losses.append(float(loss))  # waits for the card
            if not math.isfinite(losses[-1]):
                highest /= 2
                said(f"step {done}: the loss is {losses[-1]}; back, and on at a rate of {highest}")
                step.back_to(safe)
            elif now - validated > VALIDATE_EVERY:
                scores = work.validate(step.averaged)
                told(done, now - first, (done - seen) / (now - validated), losses, scores)
                if sound := all(map(math.isfinite, scores.values())):
                    torch._foreach_copy_(safe, step.average)
                if sound and now - written > WRITE_EVERY:
                    work.write(step.averaged, scores, done)
                    written = now
                validated, seen, losses = time.monotonic(), done, []
    scores = work.validate(step.averaged)
    if not all(map(math.isfinite, scores.values())):
        step.back_to(safe)
        scores = work.validate(step.averaged)
    told(done, time.monotonic() - first, 0.0, losses, scores)
    work.write(step.averaged, scores, done)
    return step.averaged, scores, done


def launched(step: Stepper, launch: str) -> tuple[Callable[[], Tensor], int]:
    """What makes a step, after the first of them: a captured graph, compiled parts, or as it is."""
    card = step.device.type == "cuda"
    if launch == "compiled" or (launch == "auto" and card):
        torch._dynamo.config.recompile_limit = 64  # one for every shape and layout
        parts = [m for m in step.work.network.modules() if isinstance(m, step.work.repeated)]
        for part in parts:
            part.compile(dynamic=False)
        try:
            tried(step)
        except Exception as error:  # whatever the compiler raises
            said(f"not compiled: {type(error).__name__}: {str(error)[:500]}")
            for part in parts:
                part._compiled_call_impl = None
            step.forget()
            tried(step)
    else:
        tried(step)
    if launch not in ("auto", "captured") or not card:
        return step, TRIED
    try:
        return captured(step), TRIED + 2
    except Exception as error:  # whatever the driver raises
        said(f"not captured: {type(error).__name__}: {str(error)[:500]}")
        step.forget()
        step.generator = torch.Generator(step.device).manual_seed(step.generator.initial_seed() + 1)
        return step, TRIED


def tried(step: Stepper) -> None:
    """The first steps; on a card on a stream of their own, as a capture wants it."""
    if step.device.type != "cuda":
        for _ in range(TRIED):
            step()
        return
    aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(TRIED):
            step()
    here.wait_stream(aside)
    torch.cuda.synchronize()


def captured(step: Stepper) -> Callable[[], Tensor]:
    """A step as one graph, seen to draw another batch each time.

    Raises `RuntimeError` where it does not.
    """
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(step.generator)
    with torch.cuda.graph(graph):
        loss = step()

    def run() -> Tensor:
        graph.replay()
        return loss

    once, again = float(run()), float(run())
    if once == again or not math.isfinite(once + again):
        raise RuntimeError(f"two steps of the graph had the losses {once} and {again}")
    return run


def rate_share(done: int, warm_up: int, first: float, now: float, deadline: float) -> float:
    """Of the highest rate: a linear rise by steps, times a cosine to zero by the clock."""
    gone = (now - first) / max(deadline - first, 1e-9)
    return min(1.0, (done + 1) / max(1, warm_up)) * 0.5 * (1 + math.cos(math.pi * min(1.0, gone)))


def told(done: int, seconds: float, speed: float, losses: list, scores: dict[str, float]) -> None:
    """One line of the run so far."""
    mean = sum(losses) / max(1, len(losses))
    shown = "  ".join(f"{name} {score:.3f}" for name, score in scores.items())
    said(f"{seconds:6.1f} s  step {done}  {speed:.1f} a second  loss {mean:.4f}  {shown}")


def said(text: str) -> None:
    """To the log, at once."""
    print(text, flush=True)  # noqa: T201
