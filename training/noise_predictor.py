"""Trains the starting noise of InvSR, for a pixel prior or a latent one.

The loss is told in `inversion_loss.py`. Without `like` a small network for a pixel prior is trained
from nothing; with it a predictor goes on from where it was, a published one beside its Stable
Diffusion folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from .command import read_options, read_prior
from .data import DegradedPairs, source
from .inversion_loss import PredictorTask
from .loop import start, train
from .predictor_by_clock import train_predictor
from .predictor_files import STRENGTHS, PredictorOptions, made, write_predictor

HELD_OUT = 16  # crops of the validation, from
UNSEEN = 4  # canvases of another seed


def pairs(options: PredictorOptions, seed: int, length: int) -> DegradedPairs:
    """Degraded pairs of the chosen pictures."""
    return DegradedPairs(source(options, options.side, seed, length), seed, STRENGTHS)


def held_out(options: PredictorOptions) -> tuple[Tensor, Tensor]:
    """Pairs of another seed; canvases that the training does not see."""
    other = replace(options, pictures="", canvases=UNSEEN, side=128)
    drawn = [pairs(other, options.seed + 1, HELD_OUT)[i] for i in range(HELD_OUT)]
    low, high = zip(*drawn, strict=True)
    return torch.stack(low), torch.stack(high)


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/predictor.safetensors`.

    `minutes` trains by the clock: `training/predictor_by_clock.py`.
    """
    options = read_options(PredictorOptions, arguments, "Trains a noise predictor.")
    if options.minutes:
        return train_predictor(options)
    accelerator = start(options)
    with accelerator.main_process_first():  # the others find the canvases drawn
        data = pairs(options, options.seed, options.steps * options.batch *
                     accelerator.num_processes)
        seen = held_out(options)
    prior = read_prior(options.prior, options.prompt)
    predictor = made(options, prior)
    task = PredictorTask(predictor, prior, options, seen)
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
        write_predictor(predictor, options, scores)
    return 0
