"""The kernel of a blur whose sharp picture is known, and what becomes of kernels in a search.

    k = argmin over k >= 0 of  |m (k * grad x - grad y)|^2 + weight |m grad x|^2 |k|^2

by projected gradient steps with Nesterov's momentum (FISTA), each two FFTs of the picture.
Gradients, because they are nearly white: the problem is then well conditioned, and what a picture
is far from its edges says nothing of the kernel. Only pixels whose blur lies inside of the picture
and reaches nothing clipped are compared (m = 1), so that no border is assumed. The search itself
averages over sharp pictures (`gradient_posterior`); this is for one that is at hand.

| here       | meaning                                                                        |
|------------|--------------------------------------------------------------------------------|
| x, y       | luminance of the sharp and of the blurred picture, (1, 1, H, W)                |
| k          | kernel, (side, side) with an odd side                                          |
| m          | 1 where a pixel is compared, (1, 1, H - 1, W - 1)                              |
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..operators.blur import gaussian_weights
from ..operators.framing import fast_size, wrapped
from ..operators.jpeg_blocks import COLOURS

UNPENNED = 20  # steps from a kernel to its path
POWER_STEPS = 8  # for the largest eigenvalue, from a fixed start
MARGIN = 1.1  # above what they found
PEN = torch.outer(*2 * [gaussian_weights(0.45).float()])  # no path is thinner
LUMINANCE_NOISE = math.hypot(*COLOURS[0])  # of noise 1 in each colour


def luminance(x: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B, 1, H, W)."""
    return (x * x.new_tensor(COLOURS[0])[:, None, None]).sum(1, keepdim=True)


def gradients(x: Tensor) -> Tensor:
    """Forward differences along rows and columns, (B, 1, H, W) -> (B, 2, H - 1, W - 1)."""
    corner = x[..., :-1, :-1]
    return torch.cat([x[..., :-1, 1:] - corner, x[..., 1:, :-1] - corner], 1)


@dataclass(eq=False)
class GradientFit:
    """The problem above for one sharp picture.

    x, y: (1, 1, H, W). side: of the kernel. seen: (1, 1, H - 1, W - 1) of zeros and ones, or None.
    """

    x: Tensor
    y: Tensor
    side: int
    seen: Tensor | None = None
    blurred_gradients: Tensor = field(init=False)

    def __post_init__(self) -> None:
        sharp, self.blurred_gradients = gradients(self.x), gradients(self.y)
        self.height, self.width = sharp.shape[-2:]
        self.size = fast_size(self.height), fast_size(self.width)
        inside = inner(self.height, self.width, self.side // 2).to(sharp)
        self.m = inside if self.seen is None else inside * self.seen
        self.spectrum = torch.fft.rfft2(sharp, s=self.size)

    def of_paths(self) -> GradientFit:
        """The same problem for the path of a kernel (`penned`)."""
        fit = copy.copy(self)
        fit.spectrum = self.spectrum * torch.fft.rfft2(wrapped(PEN.to(self.x), self.size))
        return fit

    def blur(self, k: Tensor) -> Tensor:
        """m (k * grad x), (1, 2, H - 1, W - 1)."""
        r = self.side // 2
        product = torch.fft.irfft2(self.spectrum * torch.fft.rfft2(k, s=self.size), s=self.size)
        return self.m * torch.roll(product, (-r, -r), (-2, -1))[..., : self.height, : self.width]

    def adjoint(self, e: Tensor) -> Tensor:
        """The transpose of `blur`: (1, 2, H - 1, W - 1) -> (side, side)."""
        r = self.side // 2
        product = torch.fft.rfft2(self.m * e, s=self.size) * self.spectrum.conj()
        shifts = torch.fft.irfft2(product.sum((0, 1)), s=self.size)
        return torch.roll(shifts, (r, r), (0, 1))[: self.side, : self.side]

    def misfit(self, k: Tensor) -> float:
        """|m (k * grad x - grad y)|^2 / |m grad y|^2: 0 explains everything, 1 nothing."""
        seen = self.m * self.blurred_gradients
        energy = seen.square().sum().clamp(min=1e-12)
        return float((self.blur(k) - seen).square().sum() / energy)


def inner(height: int, width: int, r: int) -> Tensor:
    """1 at least r pixels from every edge, (1, 1, height, width)."""
    m = torch.zeros(1, 1, height, width)
    m[..., r : height - r, r : width - r] = 1
    return m


def kernel_of(fit: GradientFit, k: Tensor, weight: float, iterations: int) -> Tensor:
    """The minimiser from the start k, (side, side) >= 0 of sum 1; k itself where nothing is
    seen."""
    target = fit.adjoint(fit.blurred_gradients)
    damping = weight * float((gradients(fit.x).square() * fit.m).sum())
    v = torch.randn(k.shape, generator=torch.Generator().manual_seed(0)).to(k)
    largest = v.norm()
    for _ in range(POWER_STEPS):
        v = fit.adjoint(fit.blur(v / largest))
        largest = v.norm()
    if float(largest) <= 0:
        return k
    step = 1 / (MARGIN * largest + damping)
    z, momentum, now = k, 1.0, k
    for _ in range(iterations):
        slope = fit.adjoint(fit.blur(z)) - target + damping * z
        after = (z - step * slope).clamp(min=0)
        next_momentum = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
        z = after + (momentum - 1) / next_momentum * (after - now)
        now, momentum = after, next_momentum
    return now / now.sum() if float(now.sum()) > 0 else k


def penned(path: Tensor) -> Tensor:
    """The kernel that PEN draws along a path, both (side, side) of sum 1."""
    k = F.conv2d(path[None, None], PEN.to(path)[None, None], padding=PEN.shape[0] // 2)[0, 0]
    return k / k.sum()


def path_of(k: Tensor) -> Tensor:
    """The path whose `penned` is nearest to k, by Richardson and Lucy's steps."""
    path = k
    for _ in range(UNPENNED):
        path = path * penned(k / penned(path).clamp(min=1e-9))
        path = path / path.sum()
    return path


def tidied(k: Tensor, threshold: float, least: float) -> Tensor:
    """k without values below threshold times its largest and without islands that hold less than
    `least` of it; sum 1."""
    small = torch.where(k < threshold * k.max(), 0.0, k).cpu()
    labels = islands(small > 0)
    mass = torch.zeros(small.numel() + 1).index_add(0, labels.flatten(), small.flatten())
    kept = torch.where(mass[labels] < least * small.sum(), 0.0, small)
    kept = kept if float(kept.sum()) > 0 else small
    return (kept / kept.sum()).to(k)


def islands(mask: Tensor) -> Tensor:
    """A number from 1 on for every 8-connected island of a mask, 0 outside, (h, w) int64."""
    number = torch.arange(1, mask.numel() + 1, dtype=torch.float32).view(mask.shape)
    labels = torch.where(mask, number, 0.0)[None, None]
    while True:
        spread = F.max_pool2d(labels, 3, 1, 1) * mask
        if torch.equal(spread, labels):
            return labels[0, 0].long()
        labels = spread


def centred(k: Tensor) -> Tensor:
    """k moved by whole pixels so that its centre of mass lies in the middle pixel; sum 1.

    What would leave the square goes: the kernel is then too large for it.
    """
    side = k.shape[-1]
    axis = torch.arange(side, dtype=k.dtype, device=k.device) - side // 2
    total = k.sum()
    down, right = (round(float((k.sum(d) * axis).sum() / total)) for d in (1, 0))
    room = F.pad(k, (side, side, side, side))
    moved = room[side + down : 2 * side + down, side + right : 2 * side + right]
    return moved / moved.sum()


def enlarged(k: Tensor, side: int) -> Tensor:
    """k drawn at another scale, (side, side) >= 0 with sum 1."""
    resized = F.interpolate(k[None, None], size=(side, side), mode="bicubic", align_corners=False)
    positive = resized[0, 0].clamp(min=0)
    return positive / positive.sum()


def correlation(a: Tensor, b: Tensor) -> float:
    """The largest normalised correlation of two kernels over all whole shifts, in [0, 1]."""
    n = a.shape[-1] + b.shape[-1]
    product = torch.fft.rfft2(a, s=(n, n)) * torch.fft.rfft2(b, s=(n, n)).conj()
    largest = torch.fft.irfft2(product, s=(n, n)).max()
    return float(largest / (a.norm() * b.norm()).clamp(min=1e-12))


def pointed(kernel: Tensor) -> float:
    """The correlation of a kernel with a single pixel."""
    return float(kernel.max() / kernel.norm())


def point(k: Tensor) -> Tensor:
    """No blur, as large as k."""
    none = torch.zeros_like(k)
    none[k.shape[0] // 2, k.shape[1] // 2] = 1
    return none
