"""Noise that belongs to a sample and not to its batch.

A noise source is any callable `noise(like) -> Tensor` that returns standard normal values of the
shape of `like`. Sample b draws from a generator of its own, so it receives the same numbers alone,
in a batch and in another order; no global random state is read or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

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
    generators = [torch.Generator().manual_seed(seed % 2**64) for seed in seeds]

    def draw(like: Tensor) -> Tensor:
        if like.shape[0] != len(generators):
            raise ValueError(
                f"Noise was asked for {like.shape[0]} samples, but {len(generators)} seeds were "
                "given; give one seed per sample."
            )
        rows = [torch.randn(like.shape[1:], generator=g) for g in generators]
        return torch.stack(rows).to(like.device)

    return draw
