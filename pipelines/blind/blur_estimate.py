"""What is known of a picture's blur: kernel, noise, how sure, and what to leave out.

Confidence is how alike the kernels are that the left and the right half, the upper and the lower
half, and chance samples of tiles find in the end (`agreement`): kernels that are there agree,
imagined ones follow each part's own edges. Where the halves contradict each other although each has
edges enough, the blur differs over the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.prior import Prior
from ..noise import Noise
from ..operators.contract import Operator
from ..photograph.noise_level import estimate_noise_level
from .blur_options import BlurOptions
from .kernel_estimation import (
    ITERATIONS,
    SMOOTH,
    THRESHOLD,
    WINDOW,
    Found,
    Level,
    fit_of,
    levels,
    search,
    shaped,
)
from .kernel_kinds import REACH, nearest_shape
from .kernel_update import correlation, kernel_of, tidied
from .seen import CLIPPED, observed_blur, unreached
from .spectrum import likeliest, spectrum_of

LEAST_NOISE = 0.004  # rounding to 8 bits is 0.002, and no photograph is cleaner
POINT = 0.85  # correlation with a single pixel from which a kernel is no blur
ALIKE = 0.9  # correlation from which a kernel is called by the name of a shape
DIFFERENT = 0.5  # correlation of halves below which the blur differs over the picture
NARROW = 0.6  # the same beyond which a sharp picture's own spectrum looks like a shape's
CLEARLY = 0.1  # more log likelihood a frequency; a true path of the hand has 0.1 to 0.2 over shapes
STRIDE = 32  # pixels between the windows that are compared


@dataclass(frozen=True, eq=False)
class BlurEstimate:
    """What was found.

    kernel:      (k, k) float32 with sum 1, an odd k.
    noise_level: standard deviation in [-1, 1] units.
    confidence:  0 .. 1, see above.
    clipped:     (1, 1, H, W), 1 where a pixel is clipped.
    blurred:     False where no blur was found.
    name:        of the kernel's shape, for the user.
    varies:      whether halves of the picture contradict each other.
    """

    kernel: Tensor
    noise_level: float
    confidence: float
    clipped: Tensor
    name: str
    blurred: bool
    varies: bool

    @property
    def operator(self) -> Operator:
        """The blur, without the pixels that are clipped, or read much of what lies beyond the
        border."""
        return observed_blur(self.kernel, self.clipped if self.blurred else 0 * self.clipped)

    @property
    def report(self) -> str:
        """A few lines for the user."""
        lines = [f"{self.name}; noise {self.noise_level:.3f}; confidence {self.confidence:.2f}"]
        share = float(self.clipped.mean())
        if self.blurred and share > 0:
            lines.append(f"{100 * share:.1f} % is clipped and left out.")
        if self.varies:
            lines.append(
                "Parts of the picture are blurred differently (something moved, or the camera "
                "turned): one kernel cannot undo that. Crop to what matters."
            )
        elif self.confidence < 0.5:
            lines.append("Unsure: try another kind or kernel_size, or a part with clear edges.")
        return "\n".join(lines)


def estimate_blur(prior: Prior, y: Tensor, options: BlurOptions, noise: Noise) -> BlurEstimate:
    """The blur of one picture, (1, 3, H, W) in [-1, 1].

    Raises `ValueError` for a picture that is smaller than three kernels, or all clipped.
    """
    check_size(y, options.kernel_size)
    level = options.noise_level or max(float(estimate_noise_level(y)[0]), LEAST_NOISE)
    clipped = (y.amax(1, keepdim=True) >= CLIPPED).to(y)
    seen = unreached(clipped, options.kernel_size)
    rows, columns = busiest(y, seen, WINDOW)
    window = (..., rows, columns)
    pyramid = levels(y[window], clipped[window], seen[window], options.kernel_size)
    found = found_blur(prior, pyramid, options.kind, level, noise)
    kernel, blurred = found.kernel, pointed(found.kernel) < POINT
    name = named(found) if blurred else "no blur: nothing is to be gained"
    alike = [agreement(found, part) for part in halves(found)]
    confidence = sum(alike) / len(alike)
    if not blurred:
        kernel = torch.zeros_like(kernel)
        kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
    varies = blurred and min(alike) < DIFFERENT
    return BlurEstimate(kernel, level, confidence, clipped, name, blurred, varies)


def found_blur(
    prior: Prior, pyramid: list[Level], kind: str, noise_level: float, noise: Noise
) -> Found:
    """The likeliest shape of the kind that was asked for; of 'any' what `search` finds, unless the
    spectrum finds a shape clearly more likely."""
    finest, any_kind = pyramid[-1], kind == "any"
    spectrum = spectrum_of(finest.y, noise_level)
    told = [likeliest(spectrum, k, finest.side) for k in (REACH if any_kind else (kind,))]
    shape, likelihood = max(told, key=lambda pair: pair[1])
    if any_kind:
        found = search(prior, pyramid, noise_level, noise)
        narrow = pointed(shape.kernel(finest.side)) > NARROW
        if narrow or likelihood < spectrum.likelihood(found.kernel) + CLEARLY:
            return found
    return shaped(prior, finest, shape, noise_level, noise)


def pointed(kernel: Tensor) -> float:
    """The correlation of a kernel with a single pixel."""
    return float(kernel.max() / kernel.norm())


def check_size(y: Tensor, side: int) -> None:
    """Raise `ValueError` for a picture in which the kernel has no room."""
    height, width = y.shape[-2:]
    if min(height, width) < 3 * side:
        raise ValueError(
            f"The picture is {width}x{height} pixels, and kernel_size {side} needs "
            f"{3 * side} pixels a side; choose a smaller kernel_size or a larger picture."
        )


def busiest(y: Tensor, seen: Tensor, side: int) -> tuple[slice, slice]:
    """The window of `side` pixels that has most structure."""
    height, width = (min(n, side) for n in y.shape[-2:])
    grey = F.avg_pool2d(y.mean(1, keepdim=True), 5, 1, 2) * seen
    slope = (grey[..., 1:, 1:] - grey[..., :-1, 1:]).abs()
    slope = slope + (grey[..., 1:, 1:] - grey[..., 1:, :-1]).abs()
    rooms = F.avg_pool2d(F.pad(slope, (0, 1, 0, 1)), (height, width), STRIDE)[0, 0]
    place = int(rooms.argmax())
    top, left = STRIDE * (place // rooms.shape[1]), STRIDE * (place % rooms.shape[1])
    return slice(top, top + height), slice(left, left + width)


def named(found: Found) -> str:
    """The kernel in words."""
    k = found.kernel
    if found.shape is not None:
        return str(found.shape)
    shape, alike = nearest_shape(k, k.shape[0])
    if alike >= ALIKE:
        return f"about {shape}"
    reach = [(k.amax(d) > THRESHOLD * k.max()).nonzero() for d in (1, 0)]
    height, width = (int(r.max() - r.min()) + 1 for r in reach)
    return f"an irregular path, {width} x {height} px"


def halves(found: Found) -> list[tuple[Tensor, Tensor]]:
    """Left and right, above and below, and a chequerboard's two colours: masks, 1 in a part."""
    height, width = found.x.shape[-2:]
    rows = torch.arange(height, device=found.x.device)[:, None].expand(height, width)
    columns = torch.arange(width, device=found.x.device).expand(height, width)
    board = (rows // (height // 4 + 1) + columns // (width // 4 + 1)) % 2 == 0
    sides = (columns < width // 2, rows < height // 2, board)
    return [(s.float()[None, None], 1 - s.float()[None, None]) for s in sides]


def agreement(found: Found, parts: tuple[Tensor, Tensor]) -> float:
    """The correlation of the kernels that two parts of the picture find by themselves."""
    kernels = []
    for part in parts:
        fit = fit_of(found.x, found.level, part)
        k = kernel_of(fit, torch.full_like(found.kernel, 1 / found.kernel.numel()), SMOOTH,
                      ITERATIONS)
        kernels.append(tidied(k, THRESHOLD, 0.0))
    return correlation(*kernels)
