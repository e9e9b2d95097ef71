"""A perceptual distance by features of the pack's own denoiser: no weights from elsewhere.

Reference: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018 (arXiv 1801.03924), Eq. 1: features of several depths, brought to length 1 at each place,
and the distance between those of two pictures. Theirs are of networks that tell things apart, with
learned weights; ours are those of the pixel prior's encoder, told of little noise: a denoiser has
to tell edges and texture from noise.

Where we depart: absolute differences, and all depths have the same say.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.pixel import PixelNetwork

LEVEL = 0.05  # of the noise that the denoiser is told of, in [-1, 1] units
FAINT = 0.1  # of a map's mean length: places with less hardly count


def features(prior: Any, x: Tensor) -> list[Tensor]:
    """The prior's encoder at every resolution, (B, c, h / 2^k, w / 2^k), length about 1.

    x: (B, 3, h, w) in [-1, 1]. Raises `TypeError` for what is no pixel prior of the pack.
    """
    network = prior.network if hasattr(prior, "network") else None
    if not isinstance(network, PixelNetwork):
        raise TypeError(
            f"{prior.spec.name} is no pixel prior of the pack, whose features a perceptual loss "
            "needs; leave features at 0."
        )
    dtype = network.inp.weight.dtype
    c = x.new_full((len(x),), LEVEL).log() / 4
    emb = F.silu(network.emb(network._features(c, torch.zeros_like(c)).to(dtype)))
    seen = x / (LEVEL**2 + prior.sigma_data**2) ** 0.5
    h = network.inp(F.pixel_unshuffle(seen.to(dtype, memory_format=torch.channels_last), 2))
    found = []
    for k, encoder in enumerate(network.enc):
        for block in encoder:  # type: ignore[union-attr]
            h = block(h, emb)
        found.append(unit(h))
        if k < len(network.down):
            h = network.down[k](h)
    return found


def unit(h: Tensor) -> Tensor:
    """(B, c, h, w) of length about 1 at each place."""
    length = h.float().square().sum(1, keepdim=True).sqrt()
    return h / (length + FAINT * length.mean((1, 2, 3), keepdim=True)).to(h)


def feature_distance(x: list[Tensor], truth: list[Tensor]) -> Tensor:
    """Mean over the depths of |a - b| for features of length 1: 0 for equal pictures, about 1 for
    unlike ones."""
    found = [
        (a - b).abs().mean(dtype=torch.float32) * a.shape[1] ** 0.5
        for a, b in zip(x, truth, strict=True)
    ]
    return torch.stack(found).mean()
