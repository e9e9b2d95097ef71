"""Whether half precision pays where networks run."""

from __future__ import annotations

import torch

from . import host


def quick_in_half() -> bool:
    """Whether float16 is quicker there and gives numbers: as ComfyUI says, which knows the cards
    where it does not, or on a CUDA device with units for it."""
    target, management = host.device(), host.comfy("comfy.model_management")
    if target.type != "cuda":
        return False
    if management:
        return bool(management.should_use_fp16(target))
    return torch.cuda.get_device_capability(target) >= (7, 0)
