"""The widget for a network's number format."""

from __future__ import annotations

import torch

from .comfyui.half import quick_in_half

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AUTO = "auto"
PRECISION_TOOLTIP = (
    "Number format of the network's weights; the rest stays float32. float16 halves the memory on "
    "a GPU; bfloat16 is the safer half on new ones. 'auto' is float16 where the GPU is quicker "
    "with it, otherwise float32."
)
PRECISION = ([*PRECISIONS, AUTO], {"default": "float32", "tooltip": PRECISION_TOOLTIP})


def dtype_of(precision: str) -> torch.dtype:
    """The number format of a name, of "auto" as the device has it."""
    if precision == AUTO:
        return torch.float16 if quick_in_half() else torch.float32
    return PRECISIONS[precision]
