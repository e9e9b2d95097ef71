"""What a device says when it has no memory left, by torch alone."""

from __future__ import annotations

import torch

PROCESSOR = "DefaultCPUAllocator"  # how its refusals begin
ALLOCATION = 2  # CUDA's and HIP's error code for a failed allocation
ACCELERATOR: type[RuntimeError] = getattr(torch, "AcceleratorError", RuntimeError)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that less at once may work.

    torch's own allocator raises `torch.OutOfMemoryError`; the device's driver an `AcceleratorError`
    with a code, in older versions of torch a `RuntimeError` that says it in words. The CPU's
    allocator has only words.
    """
    if isinstance(error, torch.OutOfMemoryError) or PROCESSOR in str(error):
        return True
    code, words = getattr(error, "error_code", None), str(error).lower()
    return isinstance(error, ACCELERATOR) and (code == ALLOCATION or "out of memory" in words)
