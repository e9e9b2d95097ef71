"""Phase retrieval: only the magnitude of the Fourier transform is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Options, option
from .contract import Operator


@dataclass(frozen=True, eq=False)
class PhaseRetrieval(Options, Operator):
    """A(x) = |FFT((x + 1) / 2)| of the picture inside a black frame, as DAPS has it.

    The picture, in [0, 1], gets a frame of int(oversampling / 8 * side) black pixels on each side,
    then a centred orthonormal two-dimensional FFT. The measurement is not a picture: its values are
    magnitudes >= 0, with the large ones in the middle.
    Many pictures share one measurement (turned by 180 degrees, shifted, and others), so several
    samples are drawn and the best is kept: DAPS takes four.
    """

    oversampling: float = option(
        2.0,
        "Width of the black frame on each side, in eighths of the picture's side; 2 in the papers. "
        "Less measures less, and 0 does not determine the picture.",
        min=0.0,
        max=8.0,
        step=0.25,
    )
    about: ClassVar[str] = (
        "Only the magnitude of the padded picture's Fourier transform. Hard: draw several samples, "
        "use the Langevin update, and keep the best."
    )
    aliases: ClassVar[tuple[str, ...]] = ("Fourier", "magnitude", "diffraction")
    linear: ClassVar[bool] = False
    smooth: ClassVar[bool] = False

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H + 2 p_h, W + 2 p_w)."""
        p_h, p_w = (self._frame(n) for n in x.shape[-2:])
        framed = F.pad((x + 1) / 2, (p_w, p_w, p_h, p_h))
        spectrum = torch.fft.fft2(torch.fft.ifftshift(framed, dim=(-2, -1)), norm="ortho")
        return torch.fft.fftshift(spectrum, dim=(-2, -1)).abs()

    def _frame(self, side: int) -> int:
        """Pixels of black on each side."""
        return int(self.oversampling / 8 * side)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(H, W) inside the frame. Raises `ValueError` for a size that no picture leads to."""
        return self._inside(height), self._inside(width)

    def _inside(self, framed: int) -> int:
        """The side n with n + 2 frame(n) = framed, if there is one."""
        n = int(framed / (1 + self.oversampling / 4))
        for side in range(max(1, n - 1), n + 3):
            if side + 2 * self._frame(side) == framed:
                return side
        raise ValueError(
            f"No picture has a Fourier magnitude of {framed} pixels at oversampling "
            f"{self.oversampling:g}; give a measurement that this operator made."
        )

    def guess(self, y: Tensor) -> Tensor:
        """Mid grey: magnitudes say nothing of where things are."""
        return y.new_zeros(*y.shape[:2], *self.input_size(*y.shape[-2:]))
