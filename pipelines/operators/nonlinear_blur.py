"""Nonlinear blur: a network blurs the picture as a code tells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ..options import Options, option
from .canvas import pad_reflect
from .contract import Operator


class BlurNetwork(Protocol):
    """A picture and a code -> the blurred picture.

    code_channels: channels of the code; stride: pixels of the picture per position of the code.
    """

    code_channels: int
    stride: int

    def __call__(self, picture: Tensor, code: Tensor) -> Tensor:
        """(B, 3, H, W) in [0, 1], (B, code_channels, H / stride, W / stride) -> (B, 3, H, W)."""
        ...


@dataclass(frozen=True, eq=False)
class NonlinearBlur(Options, Operator):
    """A(x) = clip(2 G((x + 1) / 2, strength n) - 1, -1, 1) with a trained network G and a fixed
    code n.

    As the SubDAPS code has it, with the network of Tran et al., "Explore Image Deblurring via
    Encoded Blur Kernel Space" (CVPR 2021), where a code of 2x2 positions at 256x256 pixels is drawn
    from N(0, 1) and multiplied by 1.2. At that size ours is the same operator. Other sizes are
    ours: the picture is continued by reflection at the bottom and the right to multiples of
    `stride`, 128 pixels, a code is drawn for that size, and the result is cropped. A seed's code at
    another size is another blur.

    network: G, without gradients of its own; seed and strength choose the code.
    """

    network: BlurNetwork
    seed: int = option(0, "Random seed of the blur's code.", min=0, max=2**64 - 1)
    strength: float = option(
        1.2,
        "Standard deviation of the blur's code; 1.2 in the papers.",
        min=0.0,
        max=10.0,
        step=0.1,
    )
    linear: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W). Raises `ValueError` for another number of channels."""
        if x.shape[1] != 3:
            raise ValueError(f"Nonlinear blur got {x.shape[1]} channels; give RGB pictures, 3.")
        height, width = x.shape[-2:]
        stride = self.network.stride
        canvas = pad_reflect(x, height + -height % stride, width + -width % stride)
        code = self.code(canvas).expand(x.shape[0], -1, -1, -1)
        blurred = self.network((canvas + 1) / 2, code)
        return (2 * blurred[..., :height, :width] - 1).clamp(-1, 1)

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """G."""
        return (self.network,) if isinstance(self.network, torch.nn.Module) else ()

    def code(self, canvas: Tensor) -> Tensor:
        """strength n for a canvas of (B, 3, H', W'): (1, code_channels, H' / stride, W' / stride).

        Drawn in float32 on the CPU, so that a seed gives the same blur on every device.
        """
        height, width = (n // self.network.stride for n in canvas.shape[-2:])
        shape = (1, self.network.code_channels, height, width)

        def draw() -> Tensor:
            generator = torch.Generator().manual_seed(self.seed)
            return (self.strength * torch.randn(shape, generator=generator)).to(canvas)

        return self.constant((shape, canvas.dtype, canvas.device), draw)
