"""What several answers to one picture say of the truth: a mean, and how far off it may be.

If the truth is to the answers as they are to each other it is one more draw, and as often as a
percentage says it lies in

    mean +- t d,   d^2 = V (1 + (1 - c) / K),   V = s^2 / (1 + c / (K - 1))

where s^2 is the variance over the K answers, divided by K - 1, and t the quantile of Student's
distribution: for independent answers (c = 0, K - 1 degrees of freedom) the prediction interval of a
normal sample. Answers that were drawn in pairs (`subdaps/draws.py`) have the correlation -c within
a pair. Their mean is nearer the posterior's than that of independent ones, they spread further
around it, and V has as many degrees of freedom as there are pairs. c is measured: with q the mean
product of a pair's deviations from the mean over their mean square,

    c = -(1 + q (K - 1)) / (q + K - 1),   0 for q = -1 / (K - 1), 1 for q = -1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 9  # pixels a side, within which what answers share is held against what they do not
VISIBLE = 0.02  # spread, pixels from 0 to 1, below which nobody sees whether a detail is invented
PANELS = 2000  # of Simpson's rule
FURTHEST = 1e4  # t of 99.9 % with one degree of freedom is 637


@dataclass(frozen=True, eq=False)
class Summary:
    """Of K answers per picture; pixels from 0 to 1.

    mean, lower, upper: (P, H, W, C). spread: (P, H, W), root mean square over colours.
    certain: (P, H, W) bool, whether the truth is expected within the tolerance.
    within: of every picture, how far from the mean the percentage of its pixels is expected.
    invented: of every picture, the share in which answers share less than they differ.
    """

    mean: Tensor
    lower: Tensor
    upper: Tensor
    spread: Tensor
    certain: Tensor
    within: tuple[float, ...]
    invented: tuple[float, ...]


def summarised(groups: Tensor, percentage: float, tolerance: float, factor: float) -> Summary:
    """Of answers (P, K, H, W, C), colours only, pixels from 0 to 1.

    percentage: in (0, 100). tolerance: a distance. factor: by which distances are multiplied, 1
    where the answers are draws, or as measured with known pictures.
    """
    mean = groups.mean(1)
    spread = groups.var(1).mean(-1).sqrt() * factor
    reach = torch.stack([factor * half_width(answers, percentage) for answers in groups])
    return Summary(
        mean,
        (mean - reach).clamp(0, 1),
        (mean + reach).clamp(0, 1),
        spread,
        reach.amax(-1) <= tolerance,
        tuple(factor * reached(answers, percentage) for answers in groups),
        tuple(float(picture.float().mean()) for picture in made_up(mean, spread)),
    )


def half_width(answers: Tensor, percentage: float) -> Tensor:
    """t d of answers (K, ...) -> (...)."""
    count, c = len(answers), paired(answers)
    freedom = (1 - c) * (count - 1) + c * count / 2
    return answers.std(0) * (student(percentage, freedom) * widening(count, c))


def widening(count: int, c: float) -> float:
    """d / s."""
    return math.sqrt((1 + (1 - c) / count) / (1 + c / (count - 1)))


def paired(answers: Tensor) -> float:
    """c of answers (K, ...), to two decimals in [0, 1]: how far they mirror each other in pairs."""
    count = len(answers)
    if count % 2 or count == 2:  # two answers mirror each other in any case
        return 0.0
    away = answers - answers.mean(0)
    square = float(away.square().mean())
    if square == 0:
        return 0.0
    q = float((away[0::2] * away[1::2]).mean()) / square
    return round(min(max(-(1 + q * (count - 1)) / (q + count - 1), 0.0), 1.0), 2)


def made_up(mean: Tensor, spread: Tensor) -> Tensor:
    """(P, H, W) bool: where, in a window around, the contrast of what the answers share is less
    than what they differ by, and that can be seen."""
    grey = mean.mean(-1)[:, None]

    def local(v: Tensor) -> Tensor:
        side = WINDOW // 2
        return F.avg_pool2d(F.pad(v, (side,) * 4, mode="replicate"), WINDOW, 1)

    shared = (local(grey.square()) - local(grey).square()).clamp(min=0)
    differing = local(spread.square()[:, None])
    return ((differing > shared) & (differing > VISIBLE**2))[:, 0]


def reached(answers: Tensor, percentage: float) -> float:
    """The distance from their mean within which the percentage of a picture's values is expected,
    (K, H, W, C) -> number: how far the answers lie from it, made up for their share in the mean."""
    count = len(answers)
    away = (answers - answers.mean(0)).abs().flatten()
    rank = max(1, math.ceil(len(away) * percentage / 100))
    own = math.sqrt((count - 1) / count)  # of a deviation from the mean, over s
    return float(away.kthvalue(rank).values) / own * widening(count, paired(answers))


@cache
def student(percentage: float, freedom: float) -> float:
    """t with |t'| <= t in that percentage of cases, for Student's t' of `freedom` >= 1."""
    low, high = 0.0, FURTHEST
    for _ in range(60):
        middle = (low + high) / 2
        inside = probability(middle, freedom) >= percentage / 100
        low, high = (low, middle) if inside else (middle, high)
    return high


@cache
def probability(t: float, freedom: float) -> float:
    """P(|t'| <= t): with t' = sqrt(v) tan(a) the density is proportional to cos(a)^(v - 1)."""
    ratio = math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2))
    whole = math.sqrt(math.pi) * ratio
    end = math.atan(t / math.sqrt(freedom))
    step = end / PANELS
    total = 0.0
    for j in range(PANELS + 1):
        weight = 1 if j in (0, PANELS) else 4 if j % 2 else 2
        total += weight * math.cos(j * step) ** (freedom - 1)
    return 2 * total * step / 3 / whole
