"""States as they come in a restoration: noise, and what an update left of errors.

Ours, beside SubDAPS++ (arXiv 2605.14267), whose networks know states of the picture plus white
noise only. In its loop the next state is (`pipelines/subdaps/complement.py`)

    x_next = x0 + (A^T A + rho)^-1 (rho e + A^T d) + sigma_next n,   rho = (noise_level / r)^2

where e = D(x0 + sigma n, sigma) - x0 is the network's own error at the level before, r is
2 sigma_next, and d is what y holds and no state of the level explains: with y = K x and A = K U for
pictures that U enlarges by the level's factor, d = K (x - U x0). Where K is weak d is amplified a
thousandfold. The noise is white only where the update is a minimum: where conjugate gradients stop
early it is 2 A^T A (A^T A + early)^-1 n less, for some early > rho. A network that has learnt how
white noise looks takes all of this for a part of the picture. Here K is a blur that goes round the
edges, a mask, or the mean of squares, for which all of it is known in closed form; so a share of
the crops is such a state, and costs one more call of the network without a derivative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..models.pixel import PixelPrior
from ..pipelines.operators.blur import gaussian_weights
from ..pipelines.operators.canvas import block_sum, pool, upsample
from ..pipelines.operators.motion_blur import walk_kernel
from ..pipelines.step import column

WALKS, WALK_SIDES = 96, (61, 31, 15)  # random walks in all, and their sides in pixels
BELLS, STDS = 32, (0.6, 4.0)  # Gaussians, and their standard deviations in pixels
BLURRED, MASKED = 0.6, 0.2  # shares; the rest is averaged over squares
NOISE, LEAST = (0.01, 0.2), 1e-6  # noise_level, ln uniform; of rho, as transforms round
STOPPED, EARLY = 0.6, (1e-5, 1.0)  # share of blurs whose iterations stop early, and W's rho there
BEFORE = (1.1, 4.0)  # the noise level before over this one, ln uniform
HIDDEN = (0.3, 0.95)  # share of pixels that a mask hides
SQUARE = 4  # pixels


class RestoredStates:
    """What updates leave of errors, in a share of the crops of every reduction.

    counts: crops of a batch by their reduction. side: of the reduced crops, in pixels.
    """

    def __init__(
        self, share: float, counts: dict[int, int], side: int, seed: int, device: torch.device
    ) -> None:
        kernels, counts = random_kernels(seed), {f: n for f, n in counts.items() if n}
        self.counts = {factor: round(n * share) for factor, n in counts.items()}
        self.blurs = {f: Blurs(kernels, side, f, device) for f, n in self.counts.items() if n}
        firsts = [k for n, some in zip(counts.values(), self.counts.values(), strict=True)
                  for k in [True] * some + [False] * (n - some)]
        self.some = torch.tensor(firsts).nonzero()[:, 0].to(device)

    @torch.no_grad()
    def added(
        self, prior: PixelPrior, x0: Tensor, noise: Tensor, wholes: Sequence[Tensor],
        sigma: Tensor, level: Tensor, generator: torch.Generator,
    ) -> Tensor:
        """The states x0 + noise, (B, 3, side, side), with what an update leaves in the first crops
        of each reduction. wholes: by reduction f, (n, 3, f side, f side), the pictures of which x0
        holds the averages. sigma, level: (B,). generator: of their device."""
        some = [w[:n] for w, n in zip(wholes, self.counts.values(), strict=True) if n]
        x = x0 + noise
        x0, sigma, level = x0[self.some], sigma[self.some], level[self.some]
        u = torch.rand(5, len(x0), generator=generator, device=x0.device)
        before = sigma * between(BEFORE, u[0])
        n = torch.randn(x0.shape, generator=generator, device=x0.device)
        e = prior.denoise_levels(x0 + column(before, x0) * n, before, level) - x0
        rho = column((between(NOISE, u[1]) / (2 * sigma)).square().clamp(min=LEAST), x0)
        early = column(torch.where(u[3] < STOPPED, between(EARLY, u[4]), torch.inf), x0)
        each = (x0, noise[self.some], e, rho, early, column(u[2], x0))
        sizes = [len(w) for w in some]
        parts = zip(some, *(t.split(sizes) for t in each), self.blurs.items(), strict=True)
        left = [self.left(*part, generator) for part in parts]
        return x.index_add(0, self.some, torch.cat(left))

    def left(
        self, whole: Tensor, x0: Tensor, noise: Tensor, e: Tensor, rho: Tensor, early: Tensor,
        kind: Tensor, seen: tuple[int, Blurs], generator: torch.Generator,
    ) -> Tensor:
        """(A^T A + rho)^-1 (rho e + A^T d), and what is missing of the noise, for pictures of one
        reduction, each of its kind."""
        factor, blurs = seen
        z = whole - upsample(x0, factor)
        square = max(1, SQUARE // factor)
        left = torch.where(
            kind < BLURRED + MASKED, masked(e, z, rho, generator), averaged(e, rho, square)
        )
        return torch.where(kind < BLURRED, blurs(e, z, noise, rho, early, generator), left)


class Blurs:
    """Updates for blurs K of pictures that U enlarges by a factor, in Fourier space.

    U^T K^T K U goes round the reduced pictures, as K does round the whole ones.
    """

    def __init__(
        self, kernels: Sequence[Tensor], side: int, factor: int, device: torch.device
    ) -> None:
        self.factor = factor
        self.power = torch.stack([power_of(k, side * factor) for k in kernels]).to(device)
        one = torch.zeros(1, 1, side, side, device=device)
        one[..., 0, 0] = 1.0
        answer = self.back(upsample(one, factor), self.power[:, None])
        self.reduced = torch.fft.rfft2(answer).real.clamp(min=0)  # |A|^2

    def __call__(
        self, e: Tensor, z: Tensor, noise: Tensor, rho: Tensor, early: Tensor,
        generator: torch.Generator,
    ) -> Tensor:
        """(A^T A + rho)^-1 (rho e + A^T K z) - 2 A^T A (A^T A + early)^-1 noise with a blur of its
        own for each sample."""
        which = torch.randint(len(self.power), (len(e),), generator=generator, device=e.device)
        power, seen = self.power[which][:, None], self.reduced[which]
        left = torch.fft.rfft2(rho * e.float() + self.back(z, power)) / (seen + rho)
        left = left - torch.fft.rfft2(noise.float()) * (2 * seen / (seen + early))
        return torch.fft.irfft2(left, s=e.shape[-2:])

    def back(self, z: Tensor, power: Tensor) -> Tensor:
        """U^T K^T K z."""
        seen = torch.fft.irfft2(torch.fft.rfft2(z.float()) * power, s=z.shape[-2:])
        return block_sum(seen, self.factor)


def masked(e: Tensor, z: Tensor, rho: Tensor, generator: torch.Generator) -> Tensor:
    """The same where K is a mask of single pixels."""
    factor = z.shape[-1] // e.shape[-1]
    shape, (low, high) = (len(e), 1, *z.shape[-2:]), HIDDEN
    share = torch.rand(len(e), generator=generator, device=e.device) * (high - low) + low
    seen = (torch.rand(shape, generator=generator, device=e.device) > column(share, e)).float()
    count, back = (block_sum(t, factor) for t in (seen, seen * z))
    return (rho * e + back) / (count + rho)


def averaged(e: Tensor, rho: Tensor, square: int) -> Tensor:
    """The same where K U is the mean of squares of so many pixels a side, A A^T = 1 / square^2;
    whole pictures have no mean that a state does not explain."""
    return e - upsample(pool(e, square), square) / (1 + square**2 * rho)


def between(bounds: Sequence[float], share: Tensor) -> Tensor:
    """Ln uniform of a uniform share."""
    low, high = map(math.log, bounds)
    return (low + (high - low) * share).exp()


def random_kernels(seed: int) -> list[Tensor]:
    """Kernels with sum 1."""
    random = torch.Generator().manual_seed(seed)
    walks = torch.rand(WALKS, generator=random).tolist()
    kernels = [
        walk_kernel(WALK_SIDES[i % len(WALK_SIDES)], 0.2 + 0.6 * u, seed + i)
        for i, u in enumerate(walks)
    ]
    for std in between(STDS, torch.rand(BELLS, generator=random)).tolist():
        line = gaussian_weights(std)
        kernels.append(torch.outer(line, line).float())
    return kernels


def power_of(kernel: Tensor, side: int) -> Tensor:
    """|K|^2 of a kernel, wrapped round the picture where it is wider, (side, side / 2 + 1)."""
    wide = side * math.ceil(max(kernel.shape) / side)
    k = F.pad(kernel, (0, wide - kernel.shape[1], 0, wide - kernel.shape[0]))
    k = k.unflatten(0, (-1, side)).unflatten(2, (-1, side)).sum((0, 2))
    return torch.fft.rfft2(k).abs().square()
