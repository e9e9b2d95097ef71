"""JPEG compression, as a differentiable codec."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ..options import Options, option
from ..process_wide import ProcessWide
from .contract import Operator
from .jpeg_blocks import whole_blocks
from .jpeg_cells import MACRO, cells_of


@dataclass(frozen=True, eq=False)
class JPEG(Options, Operator):
    """Compression and decompression with the standard tables and colour at half resolution (4:2:0).

    The codec is kornia's (Reich et al., "Differentiable JPEG: The Devil is in the Details", WACV
    2024): every step is JPEG's own, but rounding is round(v) + (v - round(v))^3 and clipping is
    soft. Against libjpeg's decoded pictures its error lies below the compression's own by 7 dB at
    quality 95 to 12 dB at quality 5, on photographs.
    A coefficient that is quantised exactly has no slope: the gradient of a perfectly flat picture
    is small, but finite.
    Acts on RGB, (B, 3, H, W) in [-1, 1], of any size: the picture is continued by its last pixels
    to whole blocks, as an encoder does. Raises `ValueError` for another number of channels.
    """

    quality: int = option(
        30,
        "JPEG quality as image programs count it: 5 is ruined, 95 hardly touched.",
        min=1,
        max=100,
        step=1,
    )
    top: int = option(
        0,
        "Rows before the first whole block: 0 unless the picture was cropped since it was saved. "
        "Estimate JPEG Quality finds it.",
        min=0,
        max=7,
        advanced=True,
    )
    left: int = option(
        0,
        "Columns before the first whole block: 0 unless the picture was cropped since it was "
        "saved.",
        min=0,
        max=7,
        advanced=True,
    )
    about: ClassVar[str] = (
        "JPEG compression at a quality from 1 to 100. Repairing a picture needs the quality it was "
        "saved with: Estimate JPEG Quality finds it."
    )
    aliases: ClassVar[tuple[str, ...]] = (
        "compression",
        "artifacts",
        "blocking",
        "ringing",
        "repair JPEG",
    )
    linear: ClassVar[bool] = False
    smooth: ClassVar[bool] = False
    quantises: ClassVar[bool] = True

    def surrogate(self, x: Tensor) -> Tensor:
        """x, what a perfect codec would give.

        Rounding has slopes far below 1 for every coefficient that it sets to zero. A line search
        that believed them would take steps far too long; with the identity's slope it is cautious.
        """
        return x

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3, H, W)."""
        from kornia.enhance import jpeg_codec_differentiable

        _, channels, height, width = x.shape
        if channels != 3:
            raise ValueError(f"JPEG got {channels} channels; give RGB pictures, 3 channels.")
        with repeatable() if x.is_cuda else nullcontext():
            top, left = -self.top % MACRO, -self.left % MACRO
            pixels = whole_blocks((x + 1) / 2, MACRO, (top, left)).contiguous()
            decoded = jpeg_codec_differentiable(pixels, x.new_full((1,), self.quality))
        return decoded[..., top : top + height, left : left + width] * 2 - 1

    def before(
        self, y: Tensor, v: Tensor, r: float, noise_level: float, error: Tensor | None = None
    ) -> Tensor:
        """E[v] given that v ~ N(v, r^2) became y; see `jpeg_cells`."""
        known = vars(self).setdefault("_cells", WeakTensorKeyDictionary())
        level, cells = known.get(y, (None, None))
        if cells is None or level != noise_level:
            cells = cells_of(y, self.quality, noise_level, self.top, self.left)
            known[y] = noise_level, cells
        return cells.mean(v, r, error)


def repeatable() -> AbstractContextManager[None]:
    """A block whose operations have derivatives that add up in a fixed order on a card.

    Enlarging colour and continuing borders have none otherwise: one rounding more, another
    coefficient is quantised away, and the same seed gives another picture.
    """
    return REPEATABLE.chosen()


def choose(restored: ExitStack) -> None:
    """Deterministic algorithms where there are some; closing `restored` takes it back."""
    kept = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    restored.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore", UserWarning)  # of products, which do repeat on one card
    restored.callback(torch.use_deterministic_algorithms, kept, warn_only=warned)
    torch.use_deterministic_algorithms(True, warn_only=True)


REPEATABLE = ProcessWide(choose)
