"""The random blur kernels of Real-ESRGAN (Wang et al., 2021, arXiv 2107.10833).

With q = v^T S^-1 v at the place v, section 3.1 has a Gaussian, exp(-q / 2), a generalised one,
exp(-q^b / 2), and a plateau, 1 / (1 + q^b), each round or oblique; section 3.4 has the sinc of a
circular cutoff w, w J1(w r) / (2 pi r), which rings as sharpening and compression do.
"""

from __future__ import annotations

import math
from random import Random

import torch
from torch import Tensor

Interval = tuple[float, float]

SMALLEST_KERNEL = 7  # pixels
FORMS = ("gaussian", "gaussian oblique", "generalised", "generalised oblique", "plateau",
         "plateau oblique")
FORM_ODDS = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
GENERALISED_POWER: Interval = (0.5, 4.0)
PLATEAU_POWER: Interval = (1.0, 2.0)


def blur_kernel(largest: int, deviations: Interval, sinc: float, random: Random) -> Tensor:
    """A kernel drawn at random, (k, k) float32 with sum 1.

    largest: k is odd, from 7 to this many pixels. deviations: of a Gaussian, pixels, per axis.
    sinc: probability of a sinc.
    """
    side = random.randrange(SMALLEST_KERNEL, largest + 1, 2)
    if random.random() < sinc:
        return sinc_kernel(side, random.uniform(math.pi / (3 if side < 13 else 5), math.pi))
    form = random.choices(FORMS, FORM_ODDS)[0]
    deviation = random.uniform(*deviations)
    across, angle = deviation, 0.0
    if "oblique" in form:
        across, angle = random.uniform(*deviations), random.uniform(-math.pi, math.pi)
    low, high = GENERALISED_POWER if "generalised" in form else PLATEAU_POWER
    power = random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high)
    y, x = centred(side)
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    q = (u / deviation) ** 2 + (v / across) ** 2
    if "plateau" in form:
        k = 1 / (1 + q**power)
    else:
        k = torch.exp(-0.5 * (q**power if "generalised" in form else q))
    return (k / k.sum()).float()


def sinc_kernel(side: int, cutoff: float) -> Tensor:
    """The circular low-pass filter with this cutoff, in (0, pi] radians per pixel; rings."""
    y, x = centred(side)
    r = (x**2 + y**2).sqrt()
    k = cutoff * torch.special.bessel_j1(cutoff * r) / (2 * math.pi * r)
    k[side // 2, side // 2] = cutoff**2 / (4 * math.pi)
    return (k / k.sum()).float()


def centred(side: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of a square of pixels, counted from its centre, float64."""
    axis = torch.arange(side, dtype=torch.float64) - side // 2
    return axis[:, None], axis[None, :]


def filtered(x: Tensor, kernel: Tensor) -> Tensor:
    """Correlation with a kernel, the picture continued by its last pixels."""
    from kornia.filters import filter2d

    return filter2d(x, kernel[None].to(x), border_type="replicate")
