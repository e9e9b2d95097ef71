"""A blur kernel that somebody gives: checked, and brought to an odd square."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def normalised_kernel(weights: Tensor) -> Tensor:
    """weights / sum(weights), (k, k) float32 with an odd k. Raises `ValueError` for what is no
    blur kernel."""
    if weights.ndim != 2 or 0 in weights.shape:
        shape = "x".join(map(str, weights.shape))
        raise ValueError(f"The blur kernel is {shape}; give rows and columns, such as 61x61.")
    if not torch.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("The blur kernel has negative or non-finite values; give values >= 0.")
    if weights.sum() <= 0:
        raise ValueError("The blur kernel is zero everywhere; give one with a positive sum.")
    return squared((weights / weights.double().sum()).float())


def squared(weights: Tensor) -> Tensor:
    """A kernel of any size, continued by zeros to the smallest square with an odd side.

    Evenly on all sides; where one row or column is left, before the first, so that of an even side
    the value after the middle becomes the centre, as in `scipy.ndimage` and FFT shifts.
    """
    height, width = weights.shape
    side = max(height, width) | 1
    above, left = (side - height + 1) // 2, (side - width + 1) // 2
    return F.pad(weights, (left, side - width - left, above, side - height - above))
