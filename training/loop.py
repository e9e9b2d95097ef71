"""The one training loop, for a CPU, a GPU, or many of them with `accelerate launch`.

A task is a module whose `network` is trained and whose `forward` gives the terms of its loss. All
randomness comes from (seed, step, process): samples by their index, and the noise inside a loss
from a generator made for the step. A run that was interrupted and is started again by the same
command goes on from its last checkpoint and ends in the same weights.

`out` holds metrics.csv, pictures/<step>.png of every validation, and checkpoints/<step>, written
beside and renamed, so that a checkpoint is whole or not there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from tqdm import tqdm

from ..pipelines.options import Options, option
from .optimizers import optimizers, rate_at, set_rate
from .record import Metrics, save_pictures
from .stopping import stop_asked

PRECISIONS = ("no", "bf16")
OPTIMIZERS = ("adamw", "muon")
LONGEST_GRADIENT = 1.0  # norm; longer ones are shortened to it


@dataclass(frozen=True)
class LoopOptions(Options):
    """What every training run is told."""

    out: str = option("runs/run", "Folder of the run: checkpoints, pictures, metrics and weights.")
    seed: int = option(0, "Seed of weights, data and noise.", min=0, max=2**32 - 1)
    steps: int = option(20_000, "Steps of the optimizer in all, resumed ones included.", min=1)
    batch: int = option(16, "Samples per step and process.", min=1)
    optimizer: str = option(
        "adamw",
        "'muon' needs about half the steps: Muon for matrices and convolutions, at 3 to 6 times "
        "the rate, AdamW for the rest.",
        choices=OPTIMIZERS,
    )
    rate: float = option(1e-3, "Learning rate after warming up.", min=0.0, max=1.0)
    warm_up: int = option(200, "Steps in which the rate rises; then it falls as a cosine.", min=0)
    average: float = option(
        0.999, "Decay of the moving average of the weights, which is saved.", min=0.0, max=1.0
    )
    precision: str = option(
        "no", "'bf16' computes in bfloat16 under autocast; weights are float32.", choices=PRECISIONS
    )
    workers: int = option(0, "Processes that prepare samples; 0 does it in between.", min=0)
    save_every: int = option(1000, "Steps between checkpoints.", min=1)
    validate_every: int = option(1000, "Steps between validations.", min=1)


class Task(nn.Module):
    """What is trained, and on what.

    network: the module whose weights are trained, averaged and saved. Other modules of the task,
    such as a critic, are trained too; frozen ones are kept out of the module tree, and placed by
    `place`. step: the one in progress, from 1.
    """

    network: nn.Module
    step: int

    def place(self, device: torch.device) -> None:
        """Move what is frozen to the device."""

    def forward(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The weighted terms of the loss, whose sum is minimised. generator: on the CPU."""
        raise NotImplementedError

    def validate(self) -> tuple[dict[str, float], Tensor | None]:
        """Scores with the averaged weights, and pictures (B, 3, H, W) in [-1, 1]."""
        raise NotImplementedError


def start(options: LoopOptions) -> Accelerator:
    """The processes of this run, and their seeds; call before a network is made."""
    set_seed(options.seed)
    return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=options.precision)


def train(
    task: Task, data: Dataset, options: LoopOptions, accelerator: Accelerator
) -> Iterator[int]:
    """Train to `options.steps`, yielding the number of steps done after each.

    Afterwards `task.network` holds the averaged weights. SIGINT and SIGTERM end the run after the
    step in progress, with a checkpoint, by raising `KeyboardInterrupt`.
    """
    from diffusers.training_utils import EMAModel

    trained = [p for p in task.network.parameters() if p.requires_grad]
    others = [p for name, p in task.named_parameters() if not name.startswith("network.")]
    wrapped, *steppers = accelerator.prepare(
        task, *optimizers(trained + others, options.optimizer, options.rate)
    )
    task.place(accelerator.device)
    average = EMAModel(trained, decay=options.average)
    accelerator.register_for_checkpointing(average)
    out, main, first = Path(options.out), accelerator.is_main_process, resume(options, accelerator)
    average.to(accelerator.device)
    batches = loader(data, options, accelerator, first)
    metrics = Metrics(out / "metrics.csv", first, main)
    with asked_to_stop(accelerator) as stop:
        bar = tqdm(batches, initial=first, total=options.steps, disable=not main)
        for step, batch in enumerate(bar, first + 1):
            set_rate(steppers, rate := rate_at(step, options.steps, options.warm_up, options.rate))
            task.step = step
            terms = loss_of(wrapped, batch, options, step, accelerator)
            for stepper in steppers:
                stepper.step()
                stepper.zero_grad(set_to_none=True)
            average.step(trained)
            metrics.add(terms)
            last, stopping = step == options.steps, stop()
            if step % options.validate_every == 0 or last:
                with averaged(average, trained):
                    scores = validate(task, out, step, accelerator)
                metrics.write(step, rate, scores)
                bar.set_postfix(scores)
            if step % options.save_every == 0 or last or stopping:
                save(accelerator, out, step)
            yield step
            if stopping and not last:
                raise KeyboardInterrupt
    average.copy_to(trained)


def loss_of(
    wrapped: Any, batch: Any, options: LoopOptions, step: int, accelerator: Accelerator
) -> dict[str, Tensor]:
    """The terms of the loss, still on their device; its gradients are left with the parameters, not
    too long."""
    generator = step_generator(options.seed, step, accelerator.process_index)
    terms = wrapped(batch, generator)
    accelerator.backward(torch.stack(list(terms.values())).sum())
    for module in accelerator.unwrap_model(wrapped).children():
        accelerator.clip_grad_norm_(module.parameters(), LONGEST_GRADIENT)
    return {name: term.detach() for name, term in terms.items()}


def step_generator(*key: int) -> torch.Generator:
    """A CPU generator that belongs to (seed, step, process)."""
    own = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(own))


def loader(data: Dataset, options: LoopOptions, accelerator: Accelerator, first: int) -> Any:
    """The batches of the steps that are left; with P processes batch k goes to process k mod P."""
    per_step = options.batch * accelerator.num_processes
    batches = DataLoader(
        Subset(data, range(first * per_step, options.steps * per_step)),
        options.batch,
        num_workers=options.workers,
        multiprocessing_context="fork" if options.workers else None,  # the package has no own name
        generator=torch.Generator(),  # iterating would draw from the global one
    )
    return accelerator.prepare(batches)


def validate(task: Task, out: Path, step: int, accelerator: Accelerator) -> dict[str, float]:
    """The task's scores on the main process; its pictures go to a file."""
    if not accelerator.is_main_process:
        return {}
    task.eval()
    with torch.inference_mode():
        scores, pictures = task.validate()
    task.train()
    if pictures is not None:
        save_pictures(pictures, out / "pictures" / f"{step:08d}.png")
    return scores


def save(accelerator: Accelerator, out: Path, step: int) -> None:
    """checkpoints/<step>: weights, optimizer, average and random states; older ones go."""
    folder = out / "checkpoints"
    part = folder / "part"
    if accelerator.is_main_process:
        shutil.rmtree(part, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(part))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        part.rename(folder / f"{step:08d}")
        for older in checkpoints(out)[:-1]:
            shutil.rmtree(older)
    accelerator.wait_for_everyone()


def checkpoints(out: Path) -> list[Path]:
    """Whole checkpoints, the oldest first."""
    return sorted(path for path in (out / "checkpoints").glob("*") if path.name.isdigit())


def resume(options: LoopOptions, accelerator: Accelerator) -> int:
    """Load the last checkpoint, if there is one; returns the steps it has seen.

    Raises `ValueError` where it has seen more than are asked for.
    """
    found = checkpoints(Path(options.out))
    if not found:
        return 0
    if (step := int(found[-1].name)) > options.steps:
        raise ValueError(
            f"{options.out} has seen {step} steps, but {options.steps} are asked for; ask for more "
            "or choose another folder."
        )
    accelerator.load_state(str(found[-1]))
    return step


@contextmanager
def averaged(average: Any, parameters: list) -> Iterator[None]:
    """Inside, the parameters are their moving average."""
    average.store(parameters)
    average.copy_to(parameters)
    try:
        yield
    finally:
        average.restore(parameters)


@contextmanager
def asked_to_stop(accelerator: Accelerator) -> Iterator[Any]:
    """A function that tells whether `stop_asked` was, of any of the processes."""
    with stop_asked() as came:

        def asked() -> bool:
            if accelerator.num_processes == 1:  # which need not ask its card
                return bool(came)
            each: Any = accelerator.reduce(torch.tensor(len(came), device=accelerator.device))
            return bool(each > 0)

        yield asked
