"""Values that the host has made, on their way to a device."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(values: Tensor, where: Tensor | torch.device) -> Tensor:
    """The values on a device, or there and in the number format of a tensor, as `Tensor.to` has it.

    The host does not wait for the copy, but where memory that is given back too early would be
    read: on MPS (pytorch/pytorch#189690).
    """
    device = where.device if isinstance(where, Tensor) else where
    return values.to(where, non_blocking=device.type != "mps")
