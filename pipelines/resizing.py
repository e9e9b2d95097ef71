"""Pictures brought to another size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, h, w) -> (B, C, *size) by bicubic interpolation with antialiasing; itself where the
    size agrees. Values may overshoot at edges."""
    if picture.shape[-2:] == size:
        return picture
    return F.interpolate(picture, size=size, mode="bicubic", antialias=True)
