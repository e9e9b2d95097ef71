"""The random blur kernels of Real-World Degradation, a different one for every sample of a batch.

The families, odds and intervals of `pipelines.degradation.random_blur`, drawn on the device of the
pictures without a wait for it: masks choose where that module branches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..pipelines.degradation.random_blur import (
    FORM_ODDS,
    FORMS,
    GENERALISED_POWER,
    PLATEAU_POWER,
    SMALLEST_KERNEL,
)

TURN = 96  # places of the mean that is a Bessel function
LARGEST = 21  # pixels, the largest kernel of all chains


class Draws:
    """Random numbers of a batch, one per sample, on a device.

    generator: on that device.
    """

    def __init__(self, count: int, generator: torch.Generator, device: torch.device) -> None:
        self.count, self.generator, self.device = count, generator, device

    def share(self) -> Tensor:
        """Uniform in [0, 1), (B,)."""
        return torch.rand(self.count, generator=self.generator, device=self.device)

    def uniform(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """Uniform between bounds of each sample, (B,)."""
        return low + (high - low) * self.share()

    def whole(self, low: Tensor | float, high: Tensor | float) -> Tensor:
        """A whole number from low to high, both included, (B,) float32."""
        drawn = torch.floor(low + (high - low + 1) * self.share())
        return torch.clamp(drawn, max=high)  # a share of nearly 1 may be rounded up

    def chance(self, odds: Tensor | float) -> Tensor:
        """True with these odds, (B,) bool."""
        return self.share() < odds


def blur_kernels(draws: Draws, largest: Tensor, low: Tensor, high: Tensor, sinc: Tensor) -> Tensor:
    """Kernels with sum 1, (B, 21, 21); see `random_blur.blur_kernel`.

    largest: side in pixels, up to `LARGEST`. low, high: bounds of the Gaussian's deviation in
    pixels. sinc: odds of a sinc. All (B,).
    """
    side = SMALLEST_KERNEL + 2 * draws.whole(0.0, (largest - SMALLEST_KERNEL) // 2)
    ringing = draws.chance(sinc)
    least = torch.where(side < 13, math.pi / 3, math.pi / 5)
    waves = sinc_kernels(side, draws.uniform(least, math.pi))
    bells = smooth_kernels(draws, side, low, high)
    return torch.where(ringing[:, None, None], waves, bells)


def smooth_kernels(draws: Draws, side: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Gaussians, generalised ones and plateaus, (B, 21, 21)."""
    form, drawn, reached = torch.zeros_like(side), draws.share(), 0.0
    for odds in FORM_ODDS[:-1]:
        reached += odds
        form = form + (drawn >= reached)
    generalised, oblique, plateau = (one_of(form, word) for word in (
        "generalised", "oblique", "plateau"))
    deviation = draws.uniform(low, high)
    across = torch.where(oblique, draws.uniform(low, high), deviation)
    angle = torch.where(oblique, draws.uniform(-math.pi, math.pi), 0.0)
    least, most = (
        torch.where(generalised, a, b)
        for a, b in zip(GENERALISED_POWER, PLATEAU_POWER, strict=True)
    )
    power = torch.where(draws.chance(0.5), draws.uniform(least, 1.0), draws.uniform(1.0, most))
    power = torch.where(generalised | plateau, power, 1.0)
    y, x = places(side)
    cosine, sine = (f(angle)[:, None, None] for f in (torch.cos, torch.sin))
    u, v = x * cosine + y * sine, y * cosine - x * sine
    q = (u / deviation[:, None, None]) ** 2 + (v / across[:, None, None]) ** 2
    q = q ** power[:, None, None]
    k = torch.where(plateau[:, None, None], 1 / (1 + q), torch.exp(-0.5 * q))
    return whole(k, side)


def one_of(form: Tensor, word: str) -> Tensor:
    """Whether a form's name has this word, (B,) bool."""
    found = torch.zeros_like(form, dtype=torch.bool)
    for number, name in enumerate(FORMS):
        if word in name:
            found = found | (form == number)
    return found


def sinc_kernels(side: Tensor, cutoff: Tensor) -> Tensor:
    """`random_blur.sinc_kernel` for each sample, (B, 21, 21)."""
    y, x = places(side)
    r, w = (x**2 + y**2).sqrt(), cutoff[:, None, None]
    beside = w * bessel(w * r) / (2 * math.pi * r.clamp(min=0.5))
    return whole(torch.where(r == 0, w**2 / (4 * math.pi), beside), side)


def bessel(x: Tensor) -> Tensor:
    """J1 by its integral, the mean of cos(t - x sin t) over a turn; |x| up to 60.

    torch's own is compiled on a card when it is first called, if a compiler is there.
    """
    t = torch.arange(TURN, device=x.device, dtype=x.dtype) * (2 * math.pi / TURN)
    return torch.cos(t - x[..., None] * torch.sin(t)).mean(-1)


def places(side: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns counted from a kernel's centre, (21, 1) and (1, 21)."""
    axis = torch.arange(LARGEST, device=side.device, dtype=torch.float32) - LARGEST // 2
    return axis[:, None], axis[None, :]


def whole(k: Tensor, side: Tensor) -> Tensor:
    """Kernels cut to their own side, with sum 1."""
    y, x = places(side)
    reach = (side[:, None, None] - 1) / 2
    k = torch.where((y.abs() <= reach) & (x.abs() <= reach), k, 0.0)
    return k / k.sum((1, 2), keepdim=True)


def filtered(x: Tensor, kernels: Tensor) -> Tensor:
    """Every sample correlated with its own kernel, by Fourier transforms.

    x: (B, C, H, W), continued by its last pixels. kernels: (B, 21, 21), equal to their half turn.
    """
    reach = kernels.shape[-1] // 2
    padded = F.pad(x, (reach,) * 4, mode="replicate")
    sides = [quick(n) for n in padded.shape[-2:]]
    spectrum = torch.fft.rfft2(padded, s=sides) * torch.fft.rfft2(kernels, s=sides)[:, None]
    y = torch.fft.irfft2(spectrum, s=sides)
    rows, columns = (slice(2 * reach, 2 * reach + n) for n in x.shape[-2:])
    return y[..., rows, columns]


def quick(n: int) -> int:
    """The next number from n on that is a product of 2, 3 and 5 alone."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return n
        n += 1
