"""Samples that are restored one by one, so that none of them feels the others' company.

Libraries choose their kernels by how many rows a call has, and the last bits with them. A smooth
operator leaves that at 1e-6. Where one rounds (JPEG), has a corner (clipping) or leaves the answer
open (phases), one bit is another coefficient, and some steps later another picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from ...models.prior import Prior
from ..measurement import Measurement
from ..noise import Noise
from ..schedule import Schedule
from ..step import Step
from ..updates.update import MeasurementUpdate
from .sampler import restore


def restore_apart(
    prior: Prior,
    measurement: Measurement,
    schedule: Schedule,
    update: MeasurementUpdate,
    noises: Sequence[Noise],
    sampler: Callable[..., Iterator[Step]] = restore,
    **options: Any,
) -> Iterator[Step]:
    """`restore`, bit for bit as if each sample came alone; the steps are those of all of them.

    noises: one source per sample of `measurement`. sampler: `restore`, or `draw`. options: its own.
    """
    runs = [
        sampler(prior, measurement.sample(b), schedule, update, noise, **options)
        for b, noise in enumerate(noises)
    ]
    for steps in zip(*runs, strict=True):
        yield joined(steps)


def joined(steps: Sequence[Step]) -> Step:
    """The same step of several runs as one of a batch."""
    named = {f.name: [getattr(step, f.name) for step in steps] for f in fields(Step)}
    tensors = {name: torch.cat(v) for name, v in named.items() if isinstance(v[0], Tensor)}
    return replace(steps[0], **tensors)
