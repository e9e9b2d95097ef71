"""Hidden pixels: A x = m x."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .contract import Operator


@dataclass(frozen=True, eq=False)
class Inpainting(Operator):
    """A x = m x with a mask that is 1 where a pixel was seen and 0 where it is hidden.

    seen: (M, 1, H, W) of zeros and ones; M divides the batch, and consecutive pictures share a
    mask. Acts on [-1, 1] values, so a hidden pixel is 0, mid grey.
    Raises `ValueError` for another shape, values between 0 and 1, or a mask that hides every pixel.
    """

    seen: Tensor
    structure: ClassVar[frozenset[str]] = frozenset({"one_to_one"})

    def __post_init__(self) -> None:
        m = self.seen
        if m.ndim != 4 or m.shape[1] != 1:
            raise ValueError(f"The mask has shape {tuple(m.shape)}; give (B, 1, H, W).")
        if not ((m == 0) | (m == 1)).all():
            raise ValueError(
                "The mask has values other than 0 and 1; a pixel is either seen or hidden, so "
                "threshold the mask first."
            )
        if (m.flatten(1).sum(1) == 0).any():
            raise ValueError("The mask hides every pixel; leave at least one pixel to be seen.")

    def forward(self, x: Tensor) -> Tensor:
        """m x. Raises `ValueError` when the mask has another size or batch than x."""
        return self._mask(x) * x

    def _mask(self, x: Tensor) -> Tensor:
        """m for the batch of x, (B or 1, 1, H, W)."""
        m = self.constant((x.dtype, x.device), lambda: self.seen.to(x))
        if m.shape[-2:] != x.shape[-2:]:
            raise ValueError(
                f"The mask is {m.shape[-1]}x{m.shape[-2]} pixels and the image "
                f"{x.shape[-1]}x{x.shape[-2]}; make the mask from this image."
            )
        if x.shape[0] % m.shape[0]:
            raise ValueError(
                f"The mask and the image differ in their numbers of pictures, {m.shape[0]} and "
                f"{x.shape[0]}; give one mask, or as many."
            )
        return m if m.shape[0] == 1 else m.repeat_interleave(x.shape[0] // m.shape[0], 0)

    @property
    def count(self) -> int:
        """How many masks there are."""
        return len(self.seen)

    def of_sample(self, b: int, count: int) -> Operator:
        """With that picture's own mask."""
        masks = len(self.seen)
        own = {f.name: getattr(self, f.name)[b * masks // count][None] for f in fields(self)}
        return self if masks == 1 else replace(self, **own)

    def observe(self, y: Tensor) -> Tensor:
        """m y: what stood at hidden pixels is forgotten."""
        return self.forward(y)

    def guess(self, y: Tensor) -> Tensor:
        """Hidden pixels filled with the weighted mean of what is seen around them, coarse to
        fine."""
        return fill_hidden(y, self._mask(y))


def fill_hidden(y: Tensor, m: Tensor) -> Tensor:
    """y where m = 1; elsewhere the seen pixels' mean over the smallest pyramid cell that has some.

    y: (B, C, H, W), m: (B or 1, 1, H, W). The pull-push scheme of Gortler et al., 1996.
    """
    if min(y.shape[-2:]) == 1 or bool(m.all()):
        mean = (m * y).sum((2, 3), keepdim=True) / m.sum((2, 3), keepdim=True).clamp(min=1)
        return torch.where(m > 0, y, mean)
    pooled = {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}
    weight = F.avg_pool2d(m, **pooled)
    mean = F.avg_pool2d(m * y, **pooled) / weight.clamp(min=1e-8)
    coarse = fill_hidden(mean, (weight > 0).to(y))
    fine = F.interpolate(coarse, size=y.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(m > 0, y, fine)
