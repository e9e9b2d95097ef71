"""A larger pixel network that does, to begin with, what the small one did.

Reference: Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", 2016 (arXiv
1511.05641), section 2.3, whose new channels copy old ones. Ours start from random weights and no
old channel reads them, which breaks the symmetry without noise:

    old rows of a weight:  [W, 0],   new rows:  as a new network has them.

New blocks come last on their resolution and add nothing, their b being zero; the first step of the
optimizer changes that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..models.pixel import PixelNetwork


def grown(network: PixelNetwork, widths: tuple[int, ...], blocks: int = 0) -> PixelNetwork:
    """A network of `widths` with the outputs of `network`, (B, 3, h, w), on every input.

    blocks: per resolution; 0 keeps their number. Raises `ValueError` where there are fewer channels
    or blocks somewhere, or another number of resolutions.
    """
    old = tuple(blocks[0].a.out_channels for blocks in network.enc)  # type: ignore[index]
    if len(widths) != len(old) or any(new < now for new, now in zip(widths, old, strict=True)):
        raise ValueError(
            f"The prior has {','.join(map(str, old))} channels and cannot become "
            f"{','.join(map(str, widths))}; give as many numbers, none of them smaller."
        )
    had, embedding = len(network.enc[0]), network.emb[2].out_features  # type: ignore[arg-type]
    if blocks and blocks < had:
        raise ValueError(f"The prior has {had} blocks per resolution and cannot keep {blocks}.")
    larger = PixelNetwork(widths, blocks or had, embedding)  # type: ignore[arg-type]
    continue_from(larger, network)
    return larger


@torch.no_grad()
def continue_from(larger: nn.Module, network: nn.Module) -> None:
    """Write the weights of a network of `Block`s into a larger one of its kind, so that both have
    the same outputs."""
    known = network.state_dict()
    for name, weight in larger.state_dict().items():
        if name not in known:  # of a new block
            if name.split(".")[-2] == "b":
                weight.zero_()
        elif name.split(".")[-2] == "e":  # one half is the scale, the other the shift
            for half, now in zip(weight.chunk(2), known[name].chunk(2), strict=True):
                _place(half, now)
        else:
            _place(weight, known[name])


def _place(weight: Tensor, known: Tensor) -> None:
    """Write the old rows of a weight: known where known has values, zero beyond its columns."""
    weight[: len(known)] = 0
    weight[tuple(map(slice, known.shape))] = known
