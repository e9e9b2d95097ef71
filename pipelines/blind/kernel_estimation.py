"""Which kernel blurred a picture: blind deconvolution, coarse to fine.

Looking for the most probable picture and kernel at once fails: a blurred picture with no kernel is
the more probable pair (Levin et al., "Understanding and evaluating blind deconvolution
algorithms", CVPR 2009). The kernel alone, averaged over the pictures that it allows, is found by
expectation and maximisation, here of the picture's gradients (`gradient_posterior`).

The search has many ends, so that
- it climbs a pyramid of levels, each sqrt(2) larger, the kernel from a few pixels on;
- the noise is believed to be more than it is, and less and less (annealed);
- the coarse levels, which cost little, are searched from several starts, and the `KEPT` likeliest
  kernels go on;
- their ends are refined under the noise that there is;
- from the best of them the last levels are climbed again;
- of all ends the one is taken by which the prior's sharp picture leaves least unexplained
  (`sharp_picture`). The surprise by gradients alone is too low for kernels near a point, and did
  not tell ends with a correlation of .72 from others with .56.
Of a large picture a window with much structure is read.

Why the expectation is not a sample of the diffusion prior, as in FastDiffusionEM (arXiv 2309.00287)
and GibbsDDRM (arXiv 2301.12686): with the built-in prior it was, and ran from the true kernel to
correlations of .76 to .96 with it (three photographs).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..noise import Noise
from .gradient_posterior import GradientPosterior
from .kernel_kinds import Shape
from .kernel_update import LUMINANCE_NOISE, centred, enlarged, path_of, penned, tidied

WINDOW = 320  # pixels a side that are read of a larger picture
COARSEST = 3  # pixels of the smallest kernel
RATIO = 2**0.5
STARTS = 5
KEPT = 2  # ends of the coarse levels that go on
RETURN = 3  # levels, counted from the finest, that are climbed again from the end
GAINED = 0.1  # surprise; fitting noise gains .05 to .08
LEAST_NOISE = 0.004  # of a level; what is reduced has less noise, but no fewer errors of the model


@dataclass(frozen=True)
class Annealing:
    """Rounds of expectation and maximisation at one level, the noise's variance falling from
    `first` to `last` times the true one over the share `falling` of them.

    highest: of the gradients' own mean square, in place of `first` where that is 0.
    momentum: how much of the last change is added to a round's.
    threshold: of the largest value, below it a kernel is nothing. island: of the sum, likewise.
    """

    rounds: int
    first: float
    last: float
    falling: float = 0.8
    highest: float = 0.0
    momentum: float = 0.0
    threshold: float = 0.02
    island: float = 0.02


COARSE = Annealing(20, 0.0, 4.0, highest=0.3, threshold=0.03, island=0.03)
FINE = Annealing(24, 30.0, 2.0, falling=0.7, momentum=0.8)
LAST = Annealing(24, 1.0, 1.0, momentum=0.8)  # whitened


@dataclass(frozen=True, eq=False)
class Level:
    """One scale of the search: picture, masks of clipped pixels and of what none of them reached,
    and the kernel's side."""

    y: Tensor
    clipped: Tensor
    seen: Tensor
    side: int
    scale: float

    def variance(self, noise_level: float) -> float:
        """That of the noise in a gradient of the luminance."""
        return 2 * (LUMINANCE_NOISE * max(noise_level * self.scale, LEAST_NOISE)) ** 2

    def posterior(self, white: bool = False) -> GradientPosterior:
        """Its problem."""
        return GradientPosterior(self.y, self.seen, self.side, white)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search ended with: its kernel, its level, and its shape where it has one."""

    kernel: Tensor
    level: Level
    shape: Shape | None = None


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


def rounds(largest: int) -> int:
    """How many rounds `search` takes at most."""
    below, every = coarse(largest), len(sides(largest))
    starts, kept = (STARTS, KEPT) if below else (1, 1)
    fine = (every - below) * FINE.rounds + LAST.rounds
    again = min(RETURN, every) * FINE.rounds + LAST.rounds
    return starts * below * COARSE.rounds + kept * fine + again + LAST.rounds


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


def search(
    pyramid: list[Level],
    noise_level: float,
    noise: Noise,
    shape: Shape,
    unexplained: Callable[[Tensor], float],
    tick: Callable[[], None],
) -> Found:
    """The kernel that leaves least unexplained, by annealing over all levels; `tick` after every
    round.

    shape: the likeliest that has one, a start at the finest level. It is what is found where that
    start ends best and little is gained on the shape itself: one of few numbers is then the
    better guess.
    """
    below, finest = coarse(pyramid[-1].side), pyramid[-1]
    ends = starts_of(finest, noise)
    if below:
        ends = [climbed(pyramid[:below], k, noise_level, COARSE, tick) for k in ends]
        top = pyramid[below - 1]
        posterior, variance = top.posterior(), top.variance(noise_level)
        ends = sorted(ends, key=lambda k: posterior.surprise(k, variance))[:KEPT]
    judge, variance = finest.posterior(white=True), finest.variance(noise_level)

    def finished(k: Tensor, levels: int) -> tuple[float, Tensor]:
        k = climbed(pyramid[len(pyramid) - levels :], k, noise_level, FINE, tick)
        k = annealed(judge, k, variance, LAST, tick)
        return unexplained(k), k

    def least(ends: list[tuple[float, Tensor]]) -> tuple[float, Tensor]:
        return min(ends, key=lambda end: end[0])

    found = [finished(k, len(pyramid) - below) for k in ends]
    found.append(finished(least(found)[1], min(RETURN, len(pyramid))))
    left, best = least(found)
    simple = shape.kernel(finest.side).to(best)
    relaxed, kernel = finished(simple, 0)
    if relaxed >= left:
        return Found(best, finest)
    gained = judge.surprise(simple, variance) - judge.surprise(kernel, variance)
    return Found(kernel, finest) if gained > GAINED else Found(simple, finest, shape)


def climbed(
    pyramid: list[Level],
    kernel: Tensor,
    noise_level: float,
    annealing: Annealing,
    tick: Callable[[], None],
) -> Tensor:
    """A kernel after some levels, coarse first."""
    for level in pyramid:
        if kernel.shape[-1] != level.side:
            kernel = enlarged(kernel, level.side)
        variance = level.variance(noise_level)
        kernel = annealed(level.posterior(), kernel, variance, annealing, tick)
    return kernel


def annealed(
    posterior: GradientPosterior,
    kernel: Tensor,
    variance: float,
    annealing: Annealing,
    tick: Callable[[], None],
) -> Tensor:
    """A kernel after the rounds of one level."""
    first = annealing.first * variance or annealing.highest * posterior.energy
    last = annealing.last * variance
    first, until = max(first, last), max(annealing.falling * (annealing.rounds - 1), 1.0)
    path = path_of(kernel)
    belief, ahead, former = posterior.first(kernel), path, path
    for i in range(annealing.rounds):
        believed = first * (last / first) ** min(i / until, 1.0)
        belief = posterior.expected(penned(ahead), belief, believed)
        path = tidied(posterior.path(ahead, belief), annealing.threshold, annealing.island)
        ahead = (path + annealing.momentum * (path - former)).clamp(min=0)
        ahead, former = ahead / ahead.sum(), path
        tick()
    return centred(penned(path))


def starts_of(finest: Level, noise: Noise) -> list[Tensor]:
    """First kernels: two pixels beside each other in four directions, anything but no blur, where
    the rounds would stay; and one drawn. A single one where there is no coarse level."""
    found = []
    for place in ((1, 2), (2, 1), (2, 2), (0, 2)):
        k = finest.y.new_zeros(COARSEST, COARSEST)
        k[1, 1] = k[place] = 0.5
        found.append(k)
    drawn = noise(finest.y[:, :1, :COARSEST, :COARSEST])[0, 0].abs()
    found.append(drawn / drawn.sum())
    return found if coarse(finest.side) else found[:1]
