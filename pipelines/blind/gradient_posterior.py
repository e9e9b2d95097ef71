"""The sharp picture's gradients and the kernel, by variational Bayes: expectation and maximisation.

    g = m (k * x + n),   n ~ N(0, s^2),   x_i ~ N(0, v_i), every v_i unknown

for the two gradient fields g of a blurred picture, each by itself. The kernel alone, averaged over
the gradients that it allows, is found where the most probable pair of both is not (Levin et al.,
"Efficient marginal likelihood optimization in blind deconvolution", CVPR 2011); variances v_i of
their own are the sparsest prior and need no numbers (Wipf and Zhang, "Revisiting Bayesian blind
deconvolution", JMLR 2014).

    E:  (K^T m K / s^2 + 1 / v) x = K^T g / s^2,   c = 1 / (d / s^2 + 1 / v),   d = K^2 1
        v = x^2 + c
    M:  k = P q,  q = argmin over q >= 0 of |m (P q * x - g)|^2 + sum(c) |P q|^2

The variance c in M is what keeps the kernel from shrinking to a point. P is a pen: a lens, a pixel
and a hand that never stands still draw no path q thinner than that, and without it the rounds
break a faint path up into dots.

| here            | meaning                                                                    |
|-----------------|----------------------------------------------------------------------------|
| g, x            | gradient fields, (1, 2, h, w) on a canvas with room for the kernel         |
| k, K            | kernel, (side, side) of sum 1, and the convolution with it                 |
| q, P            | path, as large as the kernel, and `PEN`                                    |
| m               | 1 where a gradient was seen, (1, 1, h, w)                                  |
| c, v            | posterior and prior variance of each x                                     |
| variance        | s^2, of the noise in g                                                     |
| whitening       | R^2, see below                                                             |

Ours: noise that is white in the picture is not in its gradients, whose spectrum is |D|^2. With
`white` the misfit m e is weighted by R^2 = 2 / (|D|^2 + a little), as the likelihood says. From the
true kernel these steps then stay at correlations of .98 to .995, without it at .91 to .98 (three
photographs, noise .01 and .03). From afar they are slow, so that they are for the end of a search.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.framing import fast_size, wrapped
from .kernel_update import PEN, gradients, luminance

SOFT = 0.3  # "a little", of |D|^2, which goes from 0 to 4
SOLVES = 8  # conjugate gradient steps
DESCENTS = 10  # projected gradient steps to the kernel
POWER_STEPS = 6  # for the largest eigenvalue, from a fixed start
MORE_POWER_STEPS = 2  # from the last one's vector
MARGIN = 1.1  # above what they found
LEAST = 1e-8  # variance of a gradient


@dataclass(eq=False)
class Belief:
    """What is believed of the sharp gradients: mean x, variance c of each, prior variance v."""

    x: Tensor
    c: Tensor
    v: Tensor
    misfit: Tensor = field(default_factory=lambda: torch.zeros(()))
    d: Tensor = field(default_factory=lambda: torch.zeros(()))


@dataclass(eq=False)
class GradientPosterior:
    """The problem above for one picture.

    y: (1, 3, H, W) in [-1, 1]. seen: (1, 1, H, W) of zeros and ones. side: of the kernel, odd.
    """

    y: Tensor
    seen: Tensor
    side: int
    white: bool = False
    eigenvector: Tensor | None = None  # of the M-step's largest eigenvalue

    def __post_init__(self) -> None:
        seen, both = self.seen[..., :-1, :-1], gradients(luminance(self.y))
        height, width = both.shape[-2:]
        r = self.side // 2
        self.size = fast_size(height + 2 * r), fast_size(width + 2 * r)
        room = (r, self.size[1] - width - r, r, self.size[0] - height - r)
        self.m = F.pad(seen.to(both), room)
        self.g = F.pad(both, room) * self.m
        self.pen = self.transfer(PEN.to(both)).real
        self.share = height * width / (self.size[0] * self.size[1])
        self.count = float(2 * self.m.sum())
        self.energy = float(self.g.square().sum()) / max(self.count, 1)
        self.weight = self._whitening() if self.white else None

    def _whitening(self) -> Tensor:
        """R^2 of both fields, (1, 2, h, w // 2 + 1)."""
        device = self.g.device
        down = 2 - 2 * torch.cos(2 * math.pi * torch.fft.fftfreq(self.size[0], device=device))
        across = 2 - 2 * torch.cos(2 * math.pi * torch.fft.rfftfreq(self.size[1], device=device))
        both = torch.broadcast_tensors(across[None], down[:, None])
        return 2 / (torch.stack(both)[None] + SOFT)

    def transfer(self, k: Tensor) -> Tensor:
        """The kernel's half spectrum."""
        return torch.fft.rfft2(wrapped(k, self.size))

    def filtered(self, x: Tensor, spectrum: Tensor) -> Tensor:
        """x through a filter."""
        return torch.fft.irfft2(torch.fft.rfft2(x) * spectrum, s=self.size)

    def weighted(self, e: Tensor) -> Tensor:
        """m R^2 m e."""
        seen = self.m * e
        return seen if self.weight is None else self.m * self.filtered(seen, self.weight)

    def first(self, k: Tensor) -> Belief:
        """Before any step: the gradients' own size, spread as the kernel spreads."""
        spread = self.filtered(self.g.square(), self.transfer(k).conj()).clamp(min=0)
        return Belief(torch.zeros_like(self.g), torch.zeros_like(self.g),
                      spread + 1e-3 * self.energy + LEAST)

    def expected(self, k: Tensor, before: Belief, variance: float, solves: int = SOLVES) -> Belief:
        """The E-step, from the x and with the v of the belief before."""
        otf, w = self.transfer(k), variance / before.v
        d = self.pixel_weight(k, otf)
        p = d + w

        def a(x: Tensor) -> Tensor:
            return self.filtered(self.weighted(self.filtered(x, otf)), otf.conj()) + w * x

        x = before.x
        r = self.filtered(self.weighted(self.g), otf.conj()) - a(x)
        z = direction = r / p
        rz = (r * z).sum()
        for _ in range(solves):
            along = a(direction)
            step = rz / (direction * along).sum().clamp(min=1e-30)
            x, r = x + step * direction, r - step * along
            z = r / p
            rz, former = (r * z).sum(), rz
            direction = z + rz / former.clamp(min=1e-30) * direction
        c = variance / p
        e = self.filtered(x, otf) - self.g
        return Belief(x, c, x.square() + c + LEAST, (e * self.weighted(e)).sum(), d)

    def pixel_weight(self, k: Tensor, otf: Tensor) -> Tensor:
        """d, what the data weigh for each x: the energy of its (whitened) blur that is seen."""
        seen = self.filtered(self.m, self.transfer(k.square()).conj()).clamp(min=0)
        if self.weight is None:
            return seen
        power = otf.abs().square() * self.weight
        both = 2 * power.sum((-2, -1)) - power[..., 0].sum(-1)  # half spectra hold half of it
        mean = both / (self.size[0] * self.size[1])
        return seen / k.square().sum() * mean[..., None, None]

    def path(self, k: Tensor, belief: Belief) -> Tensor:
        """The M-step from the path k of a kernel, by FISTA; k itself where nothing is seen."""
        spectrum, r = torch.fft.rfft2(belief.x) * self.pen, self.side // 2
        total = self.share * belief.c.sum((-2, -1), keepdim=True)
        flat = spectrum.real.new_ones(spectrum.shape) if self.weight is None else self.weight
        spread = (total * flat).sum((0, 1)) * self.pen.square()

        def square(spectrum: Tensor) -> Tensor:
            kernel = torch.roll(torch.fft.irfft2(spectrum, s=self.size), (r, r), (0, 1))
            return kernel[: self.side, : self.side]

        def back(e: Tensor) -> Tensor:
            return (torch.fft.rfft2(e) * spectrum.conj()).sum((0, 1))

        def hessian(k: Tensor) -> Tensor:
            otf = self.transfer(k)
            blurred = torch.fft.irfft2(spectrum * otf, s=self.size)
            return square(back(self.weighted(blurred)) + spread * otf)

        target = square(back(self.weighted(self.g)))
        steps = POWER_STEPS if self.eigenvector is None else MORE_POWER_STEPS
        v = torch.ones_like(k) if self.eigenvector is None else self.eigenvector
        for _ in range(steps):
            v = hessian(v / v.norm().clamp(min=1e-30))
        self.eigenvector = v
        step = 1 / (MARGIN * v.norm()).clamp(min=1e-30)
        z, momentum, now = k, 1.0, k
        for _ in range(DESCENTS):
            after = (z - step * (hessian(z) - target)).clamp(min=0)
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            z = after + (momentum - 1) / following * (after - now)
            now, momentum = after, following
        total = now.sum()
        return torch.where(total > 0, now / total.clamp(min=1e-30), k)

    def surprise(self, k: Tensor, variance: float, rounds: int = 6) -> float:
        """-2 log p(g | k) for each gradient seen, as far as the steps bound it and up to a
        constant: less is likelier."""
        belief = self.first(k)
        for _ in range(rounds):
            v = belief.v
            belief = self.expected(k, belief, variance)
        unseen = (belief.x.square() / v).sum() + torch.log1p(v * belief.d / variance).sum()
        return float(belief.misfit / variance + unseen) / max(self.count, 1)
