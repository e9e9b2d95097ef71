"""What of a blurred picture is a convolution: neither clipped lights nor what lies over the border.

A clipped pixel was at least as bright as it says, and all pixels that the kernel connects it with
were lit by more than can be seen. The restored picture is held to that bound (`AtLeast`); a kernel
is looked for where no clipped pixel reached. Near the border the kernel reads what lies beyond. A
pixel that reads more than half of the kernel's way beyond is not compared; those further in are,
with the last pixel continued: on photographs 3 to 5 dB better than comparing all, and 3 dB than
comparing none that read beyond at all, since then the rim itself is made up.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.at_least import AtLeast
from ..operators.blur import KernelBlur
from ..operators.compose import Compose
from ..operators.contract import Operator
from ..operators.inpainting import Inpainting

CLIPPED = 2 * 250 / 255 - 1  # at and above it a pixel may have been brighter
ENOUGH = 0.3  # share of the picture that must be left where clipped lights are left out
RIM = 0.5  # of the kernel's reach


def observed_blur(kernel: Tensor, clipped: Tensor) -> Operator:
    """The convolution with (k, k), compared where it holds. clipped: (1, 1, H, W), 1 or 0."""
    blur = KernelBlur(weights=kernel)
    seen = (1 - clipped) * inside(kernel, *clipped.shape[-2:]).to(clipped)
    if bool(seen.all()) or not bool(seen.any()):
        return blur
    return Compose((blur, Inpainting(seen)))


def bounded_blur(kernel: Tensor, clipped: Tensor) -> Operator:
    """The same, for restoring: of clipped values, (1, 3, H, W), the picture is at least as bright.

    A kernel is judged without them (`observed_blur`): a wrong one can explain a bound, too.
    """
    seen = inside(kernel, *clipped.shape[-2:]).to(clipped)
    if not bool((seen * clipped).any()):
        return observed_blur(kernel, torch.zeros_like(seen))
    return Compose((KernelBlur(weights=kernel), AtLeast(seen, clipped=clipped)))


def inside(kernel: Tensor, height: int, width: int) -> Tensor:
    """1 where the kernel does not read far beyond the border, (1, 1, height, width)."""
    middle = kernel.shape[-1] // 2
    seen = torch.ones(1, 1, height, width)
    for d, size in ((2, height), (3, width)):
        lit = kernel.amax(3 - d).nonzero() - middle
        before, after = (int(RIM * max(int(n), 0)) for n in (lit.max(), -lit.min()))
        seen.narrow(d, 0, min(before, size)).zero_()
        seen.narrow(d, max(size - after, 0), min(after, size)).zero_()
    return seen


def unreached(clipped: Tensor, side: int) -> Tensor:
    """1 where no clipped pixel can have reached, (1, 1, H, W).

    Where that leaves too little, as under a white sky, only clipped pixels and their neighbours go.
    Raises `ValueError` where nothing is left then.
    """
    for reach in (side, 3):
        seen = 1 - F.max_pool2d(clipped, reach, 1, reach // 2)
        if float(seen.mean()) >= ENOUGH:
            return seen
    if float(seen.sum()) == 0:
        raise ValueError("The picture is clipped everywhere; nothing is left to find a blur in.")
    return seen
