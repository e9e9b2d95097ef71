"""Noise that belongs to a sample and not to its batch.

A noise source is any callable `noise(like) -> Tensor` that returns standard normal values of the
shape of `like`. Sample b draws from a generator of its own, so it receives the same numbers alone,
in a batch and in another order; no global random state is read or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

DAMAGE = 0x9E3779B9  # flips the bits of a seed, see `damage_seed`
LARGE = 2**20  # values: a draw of so many takes longer than handing it to another thread

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


def damage_seed(seed: int) -> int:
    """The seed of the noise that a picture is spoilt with, where a person chose `seed`.

    Another one than a sampler draws from that has the same seed, which is 0 in most workflows: its
    first noise would be the measurement's own, which no posterior knows of.
    """
    return seed ^ DAMAGE


@dataclass(eq=False)
class Streams:
    """Draws of several generators, one row each.

    For a card the next large draw is made while the card works on this one, since 36 million values
    take the CPU a third of a second. It is likely to have the same shape; if not, the generators go
    back to where they were, so that the numbers are the same.
    """

    generators: list[torch.Generator]
    ahead: tuple[torch.Size, list[Tensor], Future[Tensor]] | None = None

    def __call__(self, like: Tensor) -> Tensor:
        """Standard normal values of like's shape, on its device."""
        if like.shape[0] != len(self.generators):
            raise ValueError(
                f"Noise was asked for {like.shape[0]} samples, but {len(self.generators)} seeds "
                "were given; give one seed per sample."
            )
        values = self.made_ahead(like.shape)
        if values is None:
            values = self.made(like.shape)
        if like.device.type != "cpu" and like.numel() >= LARGE:
            states = [g.get_state() for g in self.generators]
            self.ahead = like.shape, states, drawing().submit(self.made, like.shape)
        return values.to(like.device)

    def made(self, shape: torch.Size) -> Tensor:
        """The next values, on the CPU."""
        return torch.stack([torch.randn(shape[1:], generator=g) for g in self.generators])

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


@cache
def drawing() -> ThreadPoolExecutor:
    """The thread that draws ahead, started by the first large draw for a card."""
    return ThreadPoolExecutor(1)
