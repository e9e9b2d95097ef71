"""Convolution with a known kernel: A x = k * x."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Options, option
from .operator import Operator

OFFICIAL_THRESHOLD = 0.05
BORDERS = ("replicate", "reflect", "circular", "official")


@dataclass(frozen=True, eq=False)
class Blur(Options, Operator):
    """True convolution (the kernel is not turned round) with an odd kernel of sum 1, by FFT in
    float32.

    What lies beyond the picture is its last pixel ("replicate"), its mirror image ("reflect"), its
    other side ("circular", the only border with a closed-form update), or, with "official", what
    the
    SubDAPS code assumes: zeros, that is mid grey, and every frequency of the transfer function
    below 0.05 in magnitude set to zero. The official operator is meant for parity: it errs by up to
    0.05 against the true convolution, and no camera blurs that way.
    """

    border: str = option(
        "replicate",
        "What lies beyond the picture's edge. 'official' is the papers' simulation, for parity "
        "only.",
        choices=BORDERS,
    )

    @abstractmethod
    def kernel(self) -> Tensor:
        """The blur kernel, (k, k) float32 with an odd k and sum 1."""

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Circulant for the circular border, otherwise nothing."""
        return frozenset({"circulant"}) if self.border == "circular" else frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        k = self.kernel()
        if self.border == "official":
            return official_convolution(x, k)
        r = k.shape[-1] // 2
        if self.border == "circular":
            return circular_convolution(x, k)
        return padded_convolution(x, k, r, self.border)


@dataclass(frozen=True, eq=False)
class GaussianBlur(Blur):
    """A Gaussian kernel, cut off at four standard deviations."""

    std: float = option(
        3.0, "Standard deviation of the kernel in pixels.", min=0.1, max=50.0, step=0.1
    )

    def kernel(self) -> Tensor:
        """(2 r + 1, 2 r + 1) with r = round(4 std), as scipy's `gaussian_filter` truncates it."""
        return gaussian_kernel(self.std)


@dataclass(frozen=True, eq=False)
class KernelBlur(Blur):
    """Convolution with any kernel.

    weights: (k, k), k odd, no negative values and a positive sum; it is divided by its sum.
    Raises `ValueError` otherwise.
    """

    weights: Tensor = field(default=None)  # type: ignore[assignment]
    std: ClassVar[float]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "weights", normalised_kernel(self.weights))

    def kernel(self) -> Tensor:
        """The weights."""
        return self.weights


def normalised_kernel(weights: Tensor) -> Tensor:
    """weights / sum(weights), (k, k) float32. Raises `ValueError` for what is no blur kernel."""
    shape = "x".join(map(str, weights.shape))
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or weights.shape[0] % 2 == 0:
        raise ValueError(
            f"The blur kernel is {shape}; give a square kernel with an odd side, such as 61x61, so "
            "that it has a centre."
        )
    if not torch.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("The blur kernel has negative or non-finite values; give values >= 0.")
    if weights.sum() <= 0:
        raise ValueError("The blur kernel is zero everywhere; give one with a positive sum.")
    return (weights / weights.double().sum()).float()


def gaussian_kernel(std: float) -> Tensor:
    """exp(-(u^2 + v^2) / (2 std^2)) on |u|, |v| <= round(4 std), divided by its sum."""
    radius = int(4 * std + 0.5)
    u = torch.arange(-radius, radius + 1, dtype=torch.float64)
    g = torch.exp(-0.5 * (u / std) ** 2)
    g = g / g.sum()
    return (g[:, None] * g[None, :]).float()


def padded_convolution(x: Tensor, k: Tensor, r: int, border: str) -> Tensor:
    """The picture continued by r pixels, convolved, and cropped to where no wrap-around reaches."""
    height, width = x.shape[-2:]
    if border == "reflect" and r >= min(height, width):
        raise ValueError(
            f"A kernel of radius {r} cannot reflect an image of {width}x{height} pixels; choose "
            "the border 'replicate' or a smaller kernel."
        )
    padded = F.pad(x, (r, r, r, r), mode=border)
    size = tuple(fast_size(n) for n in padded.shape[-2:])
    otf = torch.fft.rfft2(k.to(x), s=size)
    blurred = torch.fft.irfft2(torch.fft.rfft2(padded, s=size) * otf, s=size)
    return blurred[..., 2 * r : 2 * r + height, 2 * r : 2 * r + width]


def circular_convolution(x: Tensor, k: Tensor) -> Tensor:
    """The picture repeated without end in both directions."""
    height, width = x.shape[-2:]
    wrapped = torch.zeros(height, width).to(x)
    r = k.shape[-1] // 2
    rows = (torch.arange(-r, r + 1, device=x.device) % height)[:, None].expand(k.shape)
    columns = (torch.arange(-r, r + 1, device=x.device) % width)[None, :].expand(k.shape)
    wrapped = wrapped.index_put((rows, columns), k.to(x), accumulate=True)
    spectrum = torch.fft.rfft2(x) * torch.fft.rfft2(wrapped)
    return torch.fft.irfft2(spectrum, s=(height, width))


def official_convolution(x: Tensor, k: Tensor) -> Tensor:
    """Zero padding to a power of two, transfer function thresholded at 0.05, crop at k // 2."""
    height, width = x.shape[-2:]
    side = k.shape[-1]
    n = 2 ** math.ceil(math.log2(max(height, width) + side - 1))
    otf = torch.fft.rfft2(k.to(x), s=(n, n))
    otf = torch.where(otf.abs() < OFFICIAL_THRESHOLD, 0, otf)
    blurred = torch.fft.irfft2(torch.fft.rfft2(x, s=(n, n)) * otf, s=(n, n))
    r = side // 2
    return blurred[..., r : r + height, r : r + width]


@cache
def fast_size(n: int) -> int:
    """The smallest even 2^a 3^b 5^c >= n: sizes that every FFT library is quick at."""
    return min(
        m
        for m in (2**a * 3**b * 5**c for a in range(1, 15) for b in range(6) for c in range(5))
        if m >= n
    )
