"""What is known of a picture's blur: kernel, noise, how sure, and what to leave out.

Confidence is how well the kernel that one half of the picture finds explains the other half
(`agreements`): a blur that is there is the same in both, one that is imagined follows each half's
own edges. It is no probability: how many of ten kernels were right stands in `RIGHT`. Where it does
not explain it at all, the blur differs over the picture. A kernel by which the prior's sharp
picture explains less than without any is worth nothing, and what `doubts` speaks against at most
`DOUBTED`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.prior import Prior
from ..noise import Noise
from ..operators.contract import Operator
from ..photograph.noise_curve import LEAST, noise_of, slope
from ..photograph.noise_level import estimate_noise_level
from .blur_options import BlurOptions
from .doubts import another_kind, doubts, reach
from .halves import AGAIN, agreements
from .kernel_estimation import (
    KEPT,
    WINDOW,
    Found,
    Level,
    levels,
    rounds,
    search,
)
from .kernel_kinds import REACH, nearest_shape
from .kernel_update import point, pointed
from .refining import refined
from .seen import CLIPPED, bounded_blur, unreached
from .sharp_picture import SIGMAS, drawn, explained
from .spectrum import likeliest, spectrum_of, unseen_noise

LEAST_NOISE = 0.004  # rounding to 8 bits is 0.002, and no photograph is cleaner
LEAST_LEFT = 1e-6  # of the gradients; a flat picture has none
POINT = 0.85  # correlation with a single pixel from which a kernel is no blur
ALIKE = 0.9  # correlation from which a kernel is called by the name of a shape
DIFFERENT = 0.3  # agreement of halves below which the blur differs over the picture
SURE = 0.6  # confidence below which a kernel is doubtful
RIGHT = ((0.8, 9), (SURE, 6), (0.0, 3))  # from this confidence on, of ten (`benchmarks/blind.py`)
DOUBTED = 0.5  # confidence, at most, where something speaks against a kernel
STRIDE = 32  # pixels between the windows that are compared


@dataclass(frozen=True, eq=False)
class BlurEstimate:
    """What was found.

    kernel:      (k, k) float32 with sum 1, an odd k.
    noise_level: standard deviation in [-1, 1] units.
    confidence:  0 .. 1, see above.
    clipped:     (1, 3, H, W), 1 where a value is clipped.
    blurred:     False where no blur was found.
    name:        of the kernel's shape, for the user.
    varies:      whether halves of the picture contradict each other.
    against:     what speaks against the kernel, a sentence each.
    """

    kernel: Tensor
    noise_level: float
    confidence: float
    clipped: Tensor
    name: str
    blurred: bool
    varies: bool
    against: tuple[str, ...] = ()

    @property
    def operator(self) -> Operator:
        """The blur, clipped pixels being bounds, without those that read much of what is beyond."""
        return bounded_blur(self.kernel, self.clipped * self.blurred)

    @property
    def report(self) -> str:
        """A few lines for the user."""
        noise = f"noise {self.noise_level:.3f}, {self.noise_level * 127.5:.1f} of 255"
        lines = [f"{self.name}; {noise}; confidence {self.confidence:.2f}"]
        if self.blurred:
            right = next(n for least, n in RIGHT if self.confidence >= least)
            lines[0] += f" (at which {right} of 10 kernels were right)"
        if self.blurred and (share := float(self.clipped.amax(1).mean())) > 0:
            lines.append(f"{100 * share:.1f} % is clipped, and held to be at least as bright.")
        if self.varies:
            lines.append(
                "Parts of the picture are blurred differently (something moved, or the camera "
                "turned): one kernel cannot undo that. Crop to what matters."
            )
        elif self.blurred and self.confidence < SURE:
            why = f": {'; '.join(self.against)}" if self.against else ""
            lines.append(
                f"Doubtful{why}. The picture may come back worse. Try another kind, kernel_size "
                "or seed, or a part with clear edges."
            )
        return "\n".join(lines)


def work(options: BlurOptions) -> int:
    """How often `estimate_blur` calls `tick` and the prior, at most."""
    any_kind = options.kind == "any"
    searched, refining = (rounds(options.kernel_size), options.refine) if any_kind else (0, 0)
    judged = KEPT + 6 if any_kind else 2
    halves = 4 if any_kind else 5  # the last is the whole, see `another_kind`
    return searched + halves * AGAIN.rounds + (judged + refining) * len(SIGMAS)


def estimate_blur(
    prior: Prior,
    y: Tensor,
    options: BlurOptions,
    noise: Noise,
    tick: Callable[[], None] = lambda: None,
) -> BlurEstimate:
    """The blur of one picture, (1, 3, H, W) in [-1, 1]; `tick` is called after every step.

    Raises `ValueError` for a picture that is smaller than three kernels, or all clipped.
    """
    check_size(y, options.kernel_size, 0 if options.noise_level else LEAST)
    level = options.noise_level or noise_of_blurred(y)
    bright = (y >= CLIPPED).to(y)
    clipped = bright.amax(1, keepdim=True)
    seen = unreached(clipped, options.kernel_size)
    rows, columns = busiest(y, seen, WINDOW)
    window = (..., rows, columns)
    pyramid = levels(y[window], clipped[window], seen[window], options.kernel_size)
    finest = pyramid[-1]
    if level == LEAST_NOISE and not options.noise_level:
        level = unseen_noise(finest.y, level, kinds_of(options.kind), finest.side)
    noises = drawn(noise, finest.y)

    def unexplained(kernel: Tensor) -> float:
        return explained(prior, finest, kernel, level, noises)[0]

    found = found_blur(pyramid, options.kind, level, noise, unexplained, tick)
    alike = min(agreements(found, level, tick))
    none, blurred = point(found.kernel), pointed(found.kernel) < POINT
    without = unexplained(none)
    rounds = options.refine if blurred and found.shape is None else 0
    kernel, left = refined(prior, finest, found.kernel, level, noises, rounds)
    if not torch.equal(kernel, found.kernel):
        found = Found(kernel, finest)
    against = doubts(finest, kernel, level) if blurred else []
    against += another_kind(finest, kernel, level, options.kind, tick)
    name = named(found) if blurred else unblurred(against)
    confidence = alike if left < without else 0.0
    confidence = min(confidence, DOUBTED) if against else confidence
    kernel = kernel if blurred else none
    varies = blurred and alike < DIFFERENT
    return BlurEstimate(kernel, level, confidence, bright, name, blurred, varies, tuple(against))


def noise_of_blurred(y: Tensor) -> float:
    """The noise level of a blurred picture, (1, 3, H, W), as if it were white.

    That of its finest pixels misses what a camera has smoothed; the luminance that Denoise measures
    at coarser scales does not (`photograph/noise_curve.py`).
    """
    model = noise_of(y[0])
    blotchy = float(model.levels[:, 0].max()) / (slope(0.0, model.tilt) * model.times)
    return max(float(estimate_noise_level(y)[0]), blotchy, LEAST_NOISE)


def found_blur(
    pyramid: list[Level],
    kind: str,
    noise_level: float,
    noise: Noise,
    unexplained: Callable[[Tensor], float],
    tick: Callable[[], None],
) -> Found:
    """The likeliest shape of the kind that was asked for, of 'any' what `search` finds, unless the
    spectrum finds a shape likelier than that, which has fewer numbers, and the prior's sharp
    picture does not contradict it as much (the logarithm of what it leaves, another likelihood)."""
    finest = pyramid[-1]
    spectrum = spectrum_of(finest.y, noise_level)
    told = [likeliest(spectrum, k, finest.side) for k in kinds_of(kind)]
    shape, _ = max(told, key=lambda pair: pair[1])
    simple = Found(shape.kernel(finest.side).to(finest.y), finest, shape)
    if kind != "any":
        return simple
    found = search(pyramid, noise_level, noise, shape, unexplained, tick)
    likelier = spectrum.likelihood(simple.kernel) - spectrum.likelihood(found.kernel)
    if likelier < 0:
        return found
    left, less = (max(unexplained(k), LEAST_LEFT) for k in (simple.kernel, found.kernel))
    contradicted = math.log(left / less)
    return simple if contradicted <= likelier else found


def kinds_of(kind: str) -> tuple[str, ...]:
    """The shapes that the spectrum is asked for."""
    return tuple(REACH) if kind == "any" else (kind,)


def check_size(y: Tensor, side: int, least: int) -> None:
    """Raise `ValueError` for a picture in which the kernel has no room, or of less than `least`."""
    height, width = y.shape[-2:]
    if min(height, width) < (needed := max(3 * side, least)):
        raise ValueError(
            f"The picture is {width}x{height} pixels, and kernel_size {side} needs {needed} pixels "
            f"a side, {LEAST} at least; choose a smaller kernel_size or a larger picture."
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


def unblurred(against: list[str]) -> str:
    """In words that a single pixel was found, with what speaks against it."""
    return f"no blur of this kind: {against[0]}" if against else "no blur: nothing is to be gained"


def named(found: Found) -> str:
    """The kernel in words."""
    k = found.kernel
    if found.shape is not None:
        return str(found.shape)
    shape, alike = nearest_shape(k, k.shape[0])
    if alike >= ALIKE:
        return f"about {shape}"
    height, width = reach(k)
    return f"an irregular path, {width} x {height} px"
