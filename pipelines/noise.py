"""Noise that belongs to a sample and not to its batch.

A noise source is any callable `noise(like) -> Tensor` that returns standard normal values of the
shape of `like`. Sample b draws from a generator of its own, so it receives the same numbers alone,
in a batch and in another order; no global random state is read or changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from ..models.sending import sent

DAMAGE = 0x9E3779B9  # flips the bits of a seed, see `damage_seed`
SMALL = 2**15  # values: fewer are drawn sooner than handed to another thread
PART = 2**22  # values that one thread draws; a multiple of 16, see `parts`
THREADS = max(1, min(5, (os.cpu_count() or 1) // 2))

Noise = Callable[[Tensor], Tensor]
"""`(B, ...) -> (B, ...)`: independent N(0, 1) values, one stream per sample."""


def per_sample_noise(seeds: Sequence[int]) -> Noise:
    """A noise source with one CPU generator per sample.

    seeds: one integer in [0, 2^64) per sample; sample b of every later draw uses `seeds[b]`.
    torch's CPU generator reads the low 32 bits: seeds that agree in them give the same noise.
    Values are drawn in float32 on the CPU, so that a seed gives the same picture on every device,
    and are returned on the device of `like`.
    Raises `ValueError` when a draw asks for another number of samples than there are seeds.
    """
    return Streams([torch.Generator().manual_seed(seed % 2**64) for seed in seeds])


def noise_of_device(seeds: Sequence[int], device: torch.device) -> Noise:
    """A noise source with one generator of that device per sample: nothing is drawn on the host or
    brought to the device, and a seed gives other noise on another kind of device.

    seeds: as for `per_sample_noise`, whose numbers it gives on the CPU.
    """
    generators = [torch.Generator(device).manual_seed(seed % 2**64) for seed in seeds]

    def drawn_there(like: Tensor) -> Tensor:
        check_count(like, generators)
        made = torch.empty(like.shape, device=device)
        for row, generator in zip(made, generators, strict=True):
            torch.randn(row.shape, generator=generator, device=device, out=row)
        return made

    return drawn_there


def check_count(like: Tensor, generators: Sequence[torch.Generator]) -> None:
    """Raise `ValueError` unless there is one generator per sample."""
    if like.shape[0] != len(generators):
        raise ValueError(
            f"The numbers of samples and seeds are {like.shape[0]} and {len(generators)}; give one "
            "seed per sample."
        )


def damage_seed(seed: int) -> int:
    """The seed of the noise that a picture is spoilt with, where a person chose `seed`.

    Another one than a sampler draws from that has the same seed, which is 0 in most workflows: its
    first noise would be the measurement's own, which no posterior knows of.
    """
    return seed ^ DAMAGE


@dataclass(eq=False)
class Streams:
    """Draws of several generators, one row each.

    For a card the next draw is made while the card works on this one, in memory from which it
    reaches the card without a wait: 36 million values take one thread a third of a second. It is
    likely to have the same shape; if not, the generators go back to where they were, so that the
    numbers are the same. Who asks once only is drawn nothing ahead.
    """

    generators: list[torch.Generator]
    asked: bool = False
    ahead: tuple[torch.Size, list[Tensor], Future[Tensor]] | None = None

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal values of like's shape, on its device."""
        check_count(like, self.generators)
        values = self.made_ahead(like.shape)
        if values is None:
            values = self.made(empty(like))
        again, self.asked = self.asked, True
        if again and like.device.type != "cpu" and like.numel() >= SMALL:
            states = [g.get_state() for g in self.generators]
            self.ahead = like.shape, states, drawing().submit(self.made, empty(like))
        return sent(values, like.device)

    def made(self, room: Tensor) -> Tensor:
        """The next values, on the CPU, in the memory that is given."""
        waiting = []
        for row, generator in zip(room, self.generators, strict=True):
            *others, last = parts(row)
            for part in others:
                waiting.append(helping().submit(drawn, part, generator.get_state()))
                skip(generator, len(part))
            torch.randn(last.shape, generator=generator, out=last)
        for part in waiting:
            part.result()
        return room

    def made_ahead(self, shape: torch.Size) -> Tensor | None:
        """What was drawn ahead, if it has this shape; otherwise it is as if nothing had been."""
        if self.ahead is None:
            return None
        (known, states, values), self.ahead = self.ahead, None
        if known == shape:
            return values.result()
        values.result()
        for generator, state in zip(self.generators, states, strict=True):
            generator.set_state(state)
        return None


def empty(like: Tensor) -> Tensor:
    """Memory of the host for values of like's shape; CUDA reads it while the host goes on. Made
    outside of inference mode, which belongs to a thread: others write here."""
    with torch.inference_mode(False):
        return torch.empty(like.shape, pin_memory=like.is_cuda)


def parts(row: Tensor) -> Iterator[Tensor]:
    """What several threads may draw of a row: whole or, where that pays, `PART` values each.

    torch draws normal values from 16 uniform ones at a time, one of the generator's numbers each,
    so that parts give the whole's bits. The last one has more than 16, from which a rest is drawn
    anew.
    """
    values = row.view(-1)
    count = max(1, len(values) // PART) if THREADS > 1 and len(values) >= 2 * PART else 1
    for k in range(count):
        yield values[k * PART : (k + 1) * PART if k < count - 1 else len(values)]


def drawn(part: Tensor, state: Tensor) -> None:
    """Values of a generator in that state."""
    generator = torch.Generator()
    generator.set_state(state)
    torch.randn(part.shape, generator=generator, out=part)


def skip(generator: torch.Generator, count: int) -> None:
    """The generator where it is after `count` normal values, a multiple of 16, in a quarter of the
    time."""
    torch.empty(count, dtype=torch.uint8).random_(generator=generator)


@cache
def drawing() -> ThreadPoolExecutor:
    """The thread that draws ahead, started by the first draw for a card."""
    return ThreadPoolExecutor(1)


@cache
def helping() -> ThreadPoolExecutor:
    """Threads that draw parts of a large row for it."""
    return ThreadPoolExecutor(THREADS)
