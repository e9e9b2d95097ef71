"""Which kernel blurred a picture: blind deconvolution with a diffusion prior, coarse to fine.

Looking for the most probable picture and kernel at once fails: a blurred picture with no kernel is
the more probable pair (Levin et al., "Understanding and evaluating blind deconvolution
algorithms", CVPR 2009). The kernel alone, averaged over the pictures that it allows, is found
(Levin et al., 2011), by expectation and maximisation; with a diffusion prior the expectation is a
sample of the posterior (FastDiffusionEM, arXiv 2309.00287; GibbsDDRM, arXiv 2301.12686).

    E:  x ~ p(x | y, k), in a few steps of the sampler, from high to low sigma
    M:  k = the least squares kernel of x (`kernel_update`)

| letter | here        | meaning                                                               |
|--------|-------------|-----------------------------------------------------------------------|
| y      | y           | the blurred picture, reduced to this level                            |
| x      | x           | a sharp picture that the kernel allows                                |
| k      | kernel      | of this level's scale                                                 |
| sigma  | sigma       | noise level of the sampler's step                                     |
| s      | trust       | noise level that the data are believed to have                        |

Where we depart, and why:
- Levels of a pyramid, each sqrt(2) larger, the kernel from a few pixels on: the sampler's own
  coarse resolutions. At the coarsest every kernel is found; a large one at full size never.
- The data are believed less than they deserve, falling over a level from TRUST[0] to TRUST[1].
  EM with the true noise hardly moves, since x explains y with any kernel (Levin et al., 2011,
  section 3); and while the kernel is wrong, its error is noise, too.
- Steps of the kernel are twice as long as EM's (over-relaxation), which it takes without harm.
- Several starts at the coarse levels, where they cost little.
- Of a large picture a window with much structure is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.prior import Prior
from ..level import canvas_size
from ..measurement import Measurement
from ..noise import Noise
from ..operators.canvas import pad_reflect
from ..updates.conjugate_gradient import ConjugateGradient
from .blur_options import BlurOptions
from .kernel_kinds import Shape
from .kernel_update import GradientFit, enlarged, kernel_of, luminance, tidied
from .seen import observed_blur

WINDOW = 320  # pixels a side that are read of a larger picture
COARSEST = 3  # pixels of the smallest kernel
RATIO = 2**0.5
SIGMAS = (0.5, 0.25)  # of the sampler's steps
TRUST = (0.2, 0.015)  # noise levels believed at the start and at the end of a level
ROUNDS = 10  # of expectation and maximisation, at every level
RELAXATION = 2.0
JUDGED = 0.03  # noise level believed where starts are compared
SMOOTH = 1e-3  # weight of |k|^2
ITERATIONS = 40  # of the kernel's least squares
THRESHOLD = 0.03  # of the largest value; below it a kernel is nothing
ISLAND = 0.03  # of the sum
UPDATE = ConjugateGradient(iterations=8)


@dataclass(frozen=True, eq=False)
class Level:
    """One scale of the search: picture, masks of clipped pixels and of what none of them reached,
    and the kernel's side."""

    y: Tensor
    clipped: Tensor
    seen: Tensor
    side: int
    scale: float


@dataclass(frozen=True, eq=False)
class Found:
    """What a search ended with: its kernel, the sharp picture, and its shape for a kind."""

    kernel: Tensor
    x: Tensor
    level: Level
    shape: Shape | None


def sides(largest: int) -> list[int]:
    """The kernel's odd sides, from the coarsest to the finest."""
    found = [largest]
    while found[0] > COARSEST:
        smaller = int(found[0] / RATIO)
        found.insert(0, max(COARSEST, smaller - 1 + smaller % 2))
    return found


def coarse(largest: int) -> int:
    """How many of the levels are searched from every start: those of half the size or less."""
    return sum(2 * side <= largest for side in sides(largest))


def network_calls(options: BlurOptions) -> int:
    """How often the prior is asked at most, by `search` and `shaped`."""
    if options.kind != "any":
        return len(SIGMAS)
    below, starts = coarse(options.kernel_size), len(starts_of(options.kernel_size))
    searched = starts * below + len(sides(options.kernel_size)) - below
    return (searched * ROUNDS + (starts if below else 0) + 1) * len(SIGMAS)


def levels(y: Tensor, clipped: Tensor, seen: Tensor, largest: int) -> list[Level]:
    """The pyramid, coarse first. y: (1, 3, H, W); clipped, seen: (1, 1, H, W)."""
    found = []
    for side in sides(largest):
        scale = side / largest
        size = [max(round(n * scale), 1) for n in y.shape[-2:]]
        smaller = y if side == largest else F.interpolate(y, size=size, mode="bilinear",
                                                          antialias=True)
        seen_there, clipped_there = (F.interpolate(m, size=size, mode="area")
                                     for m in (seen, clipped))
        found.append(Level(smaller, (clipped_there > 0).to(y), (seen_there > 0.999).to(y), side,
                           scale))
    return found


def search(prior: Prior, pyramid: list[Level], noise_level: float, noise: Noise) -> Found:
    """The kernel, by EM over all levels.

    The coarse levels are searched from several starts, and the one goes on whose kernel explains
    its own sharp picture best.
    """
    y, below = pyramid[0].y, coarse(pyramid[-1].side)
    starts = [Found(k.to(y), y, pyramid[0], None) for k in starts_of(pyramid[-1].side)]
    if below:
        ended = [climbed(prior, pyramid[:below], f, noise_level, noise) for f in starts]
        scores = [unexplained(prior, f, noise) for f in ended]
        starts = [ended[scores.index(min(scores))]]
    return climbed(prior, pyramid[below:], starts[0], noise_level, noise)


def climbed(
    prior: Prior, pyramid: list[Level], found: Found, noise_level: float, noise: Noise
) -> Found:
    """EM over some levels, coarse first, from what was found below them."""
    for level in pyramid:
        kernel = found.kernel
        if found.level.side != level.side:
            kernel = enlarged(kernel, level.side)
        x, least = level.y, max(noise_level * level.scale, TRUST[1])
        for i in range(ROUNDS):
            trust = max(TRUST[0] * (least / TRUST[0]) ** (i / (ROUNDS - 1)), least)
            x = sharp(prior, level, kernel, trust, noise)
            kernel = relaxed(fit_of(x, level), kernel)
        found = Found(kernel, x, level, None)
    return found


def shaped(prior: Prior, level: Level, shape: Shape, noise_level: float, noise: Noise) -> Found:
    """What a search would end with whose kernel has this shape."""
    kernel = shape.kernel(level.side).to(level.y)
    x = sharp(prior, level, kernel, max(noise_level, TRUST[1]), noise)
    return Found(kernel, x, level, shape)


def unexplained(prior: Prior, found: Found, noise: Noise) -> float:
    """What a kernel leaves unexplained of y by a picture that the prior finds sharp: least for the
    true kernel, also against wider, thinner and turned ones, and most for none."""
    x = sharp(prior, found.level, found.kernel, JUDGED, noise)
    return fit_of(x, found.level).misfit(found.kernel)


def starts_of(largest: int) -> list[Tensor]:
    """First kernels: two pixels beside each other in four directions, anything but no blur, where
    EM would stay. One where there is no coarse level."""
    found = []
    for place in ((1, 2), (2, 1), (2, 2), (0, 2)):
        k = torch.zeros(COARSEST, COARSEST)
        k[1, 1] = k[place] = 0.5
        found.append(k)
    return found if coarse(largest) else found[:1]


def sharp(prior: Prior, level: Level, kernel: Tensor, trust: float, noise: Noise) -> Tensor:
    """A picture that the kernel allows, from the posterior under the believed noise level."""
    operator = observed_blur(kernel, level.clipped)
    measurement = Measurement(operator.observe(level.y), operator, trust)
    x = level.y
    for sigma in SIGMAS:
        x0_y = UPDATE(x, sigma, measurement)
        x = denoised(prior, x0_y + sigma * noise(x0_y), sigma)
    return x


def denoised(prior: Prior, x: Tensor, sigma: float) -> Tensor:
    """The prior's prediction for a picture of any size."""
    height, width = x.shape[-2:]
    canvas = canvas_size((height, width), prior.spec.multiple_of)
    level = torch.full((x.shape[0],), sigma, device=x.device)
    return prior.denoise(pad_reflect(x, *canvas), level)[..., :height, :width]


def fit_of(x: Tensor, level: Level, part: Tensor | None = None) -> GradientFit:
    """The kernel's problem for the picture x of a level, or for a part of it."""
    seen = level.seen if part is None else level.seen * part
    return GradientFit(luminance(x), luminance(level.y), level.side, seen[..., :-1, :-1])


def relaxed(fit: GradientFit, kernel: Tensor) -> Tensor:
    """A longer step than EM's towards the least squares kernel."""
    target = kernel_of(fit, kernel, SMOOTH, ITERATIONS)
    beyond = (kernel + RELAXATION * (target - kernel)).clamp(min=0)
    return tidied(beyond, THRESHOLD, ISLAND).to(kernel)
