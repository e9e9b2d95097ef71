"""Whether halves of a picture have the same blur."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .kernel_estimation import FINE, Found, Level, annealed
from .kernel_update import point

AGAIN = replace(FINE, rounds=12)  # from the whole's kernel to a half's


def agreements(found: Found, noise_level: float, tick: Callable[[], None]) -> list[float]:
    """How well the kernel of one half of the picture explains the other half, for left and right
    and for above and below: 1 as well as its own does, 0 no better than no kernel.

    Each half looks for its kernel by itself, from the whole's, and surprises are compared. The
    half that knows better is asked: the other may be empty, or full of clipped lights.
    """
    level, (height, width) = found.level, found.level.y.shape[-2:]
    variance, none = level.variance(noise_level), point(found.kernel)
    alike = []
    for d, size in ((-1, width), (-2, height)):
        halves = [cut(level, d, size - size // 2, start) for start in (0, size // 2)]
        kernels = [annealed(half.posterior(), found.kernel, variance, AGAIN, tick)
                   for half in halves]
        explained = []
        for half, own, other in zip(halves, kernels, kernels[::-1], strict=True):
            judge = half.posterior(white=True)
            best, crossed, worst = (judge.surprise(k, variance) for k in (own, other, none))
            explained.append(1 - (crossed - best) / max(worst - best, 1e-6))
        alike.append(min(max(max(explained), 0.0), 1.0))
    return alike


def cut(level: Level, d: int, size: int, start: int) -> Level:
    """A part of a level along one dimension."""
    y, clipped, seen = (m.narrow(d, start, size) for m in (level.y, level.clipped, level.seen))
    return replace(level, y=y, clipped=clipped, seen=seen)
