"""StableSR's modulation in a UNet of diffusers, for as long as a block of code runs.

The module's blocks bear the names of Stable Diffusion's own code (`stablesr.BLOCKS`). diffusers
keeps the same 22 residual blocks by level:

    input_blocks.{1 + 3 i + j}.0    down_blocks.i.resnets.j     i = 0 .. 3, j = 0, 1
    middle_block.{2 j}              mid_block.resnets.j         j = 0, 1
    output_blocks.{3 i + j}.0       up_blocks.i.resnets.j       i = 0 .. 3, j = 0, 1, 2

and h before the skip is what a block's `conv2` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .stablesr import BLOCKS, StableSRNetwork


@contextmanager
def modulated(unet: nn.Module, module: StableSRNetwork, maps: Sequence[Tensor]) -> Iterator[None]:
    """While the block runs, calls of `unet` are modulated by these maps.

    unet: diffusers' `UNet2DConditionModel` of Stable Diffusion 2.1's four levels. maps: those of
    `module.encoder` for the samples of the calls inside; of a batch that is a multiple of theirs,
    as under classifier-free guidance, every part is given the same. Derivatives pass to the maps
    as long as they are taken of what was computed inside.
    Raises `ValueError` where the module does not fit the network.
    """
    layers = [(block, convolution(unet, module, block)) for block in BLOCKS]
    hooks = []
    for block, layer in layers:

        def change(_: nn.Module, __: Any, h: Tensor, block: str = block) -> Tensor:
            parts = h.split(len(maps[0]))
            return torch.cat([module.modulate(block, part, maps) for part in parts])

        hooks.append(layer.register_forward_hook(change))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def convolution(unet: nn.Module, module: StableSRNetwork, block: str) -> nn.Module:
    """The last convolution of a block. Raises `ValueError` where it is not what the module is for.
    """
    try:
        layer = unet.get_submodule(f"{diffusers_name(block)}.conv2")
    except AttributeError:
        layer = None
    channels, wanted = getattr(layer, "out_channels", None), module.channels_of(block)
    if layer is None or channels != wanted:
        raise ValueError(
            f"The network has {channels or 'no'} channels in {diffusers_name(block)}, where the "
            f"StableSR module is for {wanted}; give Stable Diffusion 2.1 or SD-Turbo."
        )
    return layer


def diffusers_name(block: str) -> str:
    """Where diffusers keeps a residual block of Stable Diffusion's own name."""
    kind, number = block.split(".")[:2]
    if kind == "middle_block":
        return f"mid_block.resnets.{int(number) // 2}"
    if kind == "input_blocks":
        level, place = divmod(int(number) - 1, 3)
        return f"down_blocks.{level}.resnets.{place}"
    level, place = divmod(int(number), 3)
    return f"up_blocks.{level}.resnets.{place}"
