"""Convolution with a known kernel: A x = k * x."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..options import Options, option
from .banded import Banded, banded
from .contract import Operator
from .framing import by_products, fast_size, unframed, wrapped
from .kernel import normalised_kernel
from .upsampled_blur import UpsampledBlur

OFFICIAL_THRESHOLD = 0.05
BORDERS = ("replicate", "reflect", "circular", "official")


@dataclass(frozen=True, eq=False)
class Blur(Options, Operator):
    """True convolution (the kernel is not turned round) with an odd kernel of sum 1, by FFT in
    float32.

    What lies beyond the picture is its last pixel ("replicate"), its mirror image ("reflect"), its
    other side ("circular", the only border with a closed-form update), or, with "official", what
    the SubDAPS code assumes: zeros, that is mid grey, and every frequency of the transfer function
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
        """The blur kernel, (k, k) with an odd k and sum 1."""

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Circulant for the circular border, otherwise nothing."""
        return frozenset({"circulant"}) if self.border == "circular" else frozenset()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        height, width = x.shape[-2:]
        first, size = self._frame(height, width)
        x = x.contiguous()  # MKL refuses a pixel that was expanded to a picture before torch 2.8
        spectrum = torch.fft.rfft2(self._continued(x, size), s=size).mul_(self._transfer(size, x))
        blurred = torch.fft.irfft2(spectrum, s=size)
        return blurred[..., first : first + height, first : first + width]

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(A x, u -> A^T u), with correlation in place of convolution.

        The derived adjoint agrees to rounding, but it turns half spectra into whole ones and
        gathers the border slowly: 2 to 3 times the forward's cost, where this one costs the same.
        """
        height, width = x.shape[-2:]
        first, size = self._frame(height, width)
        after = (size[0] - first - height, size[1] - first - width)
        conjugate = self.constant(
            ("conjugate", size, x.dtype, x.device),
            lambda: self._transfer(size, x).conj().resolve_conj(),
        )

        def adjoint(u: Tensor) -> Tensor:
            framed = F.pad(u, (first, after[1], first, after[0]))
            gathered = torch.fft.irfft2(torch.fft.rfft2(framed).mul_(conjugate), s=size)
            return unframed(self, gathered, (height, width), self._reach(), self.border)

        return self(x), adjoint

    def upsampled(self, factor: int) -> Operator | None:
        """The polyphase form, for the replicated border; a Gaussian has its matrices."""
        polyphase = self.border == "replicate" and "separable" not in self.structure
        return UpsampledBlur(self._kernel(), factor) if polyphase else None

    def _kernel(self) -> Tensor:
        """`kernel`, made once."""
        return self.constant("kernel", self.kernel)

    def _reach(self) -> int:
        """By how many pixels the picture is continued; the FFT supplies zeros and the other
        side."""
        return self._kernel().shape[-1] // 2 if self.border in ("replicate", "reflect") else 0

    def _frame(self, height: int, width: int) -> tuple[int, tuple[int, int]]:
        """Where the picture's first pixel stands after the convolution, and the FFT's size."""
        side = self._kernel().shape[-1]
        if self.border == "circular":
            return 0, (height, width)
        if self.border == "official":
            n = 2 ** math.ceil(math.log2(max(height, width) + side - 1))
            return side // 2, (n, n)
        return side - 1, (fast_size(height + side - 1), fast_size(width + side - 1))

    def _continued(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """The picture with what lies beyond its edge, as far as the kernel reaches; its last pixel
        to the end of the frame, which no result reads, and saves a copy."""
        height, width = x.shape[-2:]
        r = self._reach()
        if self.border == "replicate":
            return F.pad(x, (r, size[1] - width - r, r, size[0] - height - r), mode="replicate")
        return F.pad(x, (r, r, r, r), mode=self.border) if r else x

    def check_size(self, height: int, width: int) -> None:
        """Raise `ValueError` for a picture that a reflection would pass."""
        r = self._reach()
        if self.border == "reflect" and r >= min(height, width):
            raise ValueError(
                f"A kernel of radius {r} cannot reflect an image of {width}x{height} pixels; "
                "choose the border 'replicate' or a smaller kernel."
            )

    def _transfer(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """The kernel's half spectrum, (size[0], size[1] // 2 + 1), of `like`'s precision."""
        return self.constant((size, like.dtype, like.device), lambda: self._spectrum(size, like))

    def _spectrum(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """`_transfer`, computed."""
        k = self._kernel().to(like)
        if self.border == "circular":
            return torch.fft.rfft2(wrapped(k, size))
        otf = torch.fft.rfft2(k, s=size)
        if self.border == "official":
            return torch.where(otf.abs() < OFFICIAL_THRESHOLD, 0, otf)
        return otf


@dataclass(frozen=True, eq=False)
class GaussianBlur(Blur):
    """A Gaussian kernel, cut off at four standard deviations."""

    std: float = option(
        3.0, "Standard deviation of the kernel in pixels.", min=0.1, max=50.0, step=0.1
    )

    def kernel(self) -> Tensor:
        """(2 r + 1, 2 r + 1) with r = round(4 std), as scipy's `gaussian_filter` truncates it."""
        g = gaussian_weights(self.std)
        return g[:, None] * g[None, :]

    def forward(self, x: Tensor) -> Tensor:
        """`Blur`'s; small pictures on a card by two products."""
        if not self._separates(x):
            return super().forward(x)
        rows, columns = (self._axis(n, x) for n in x.shape[-2:])
        return rows.on_rows(columns.on_columns(x))

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(A x, u -> A^T u), the products with the transposed matrices where A x is two."""
        if not self._separates(x):
            return super().vjp(x)
        rows, columns = (self._axis(n, x, True) for n in x.shape[-2:])
        return self(x), lambda u: rows.on_rows(columns.on_columns(u))

    def _separates(self, x: Tensor) -> bool:
        """Whether x is blurred along one axis after the other."""
        return "separable" in self.structure and by_products(x.shape[-2:], x)

    def _axis(self, size: int, like: Tensor, transposed: bool = False) -> Banded:
        """The blur along one axis, or its transpose, of `like`'s dtype and device."""

        def made() -> Banded:
            rows = self._rows(size)
            return banded(rows.T if transposed else rows, like)

        return self.constant(("axis", size, like.dtype, like.device, transposed), made)

    @property
    def structure(self) -> frozenset[str]:  # type: ignore[override]
        """Separable too, except for the official border."""
        known = super().structure
        return known if self.border == "official" else known | {"separable"}

    def axes(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """One row of Gaussian weights per output, folded at the border."""
        return self._rows(height), self._rows(width)

    def _rows(self, size: int) -> Tensor:
        """(size, size) float64: the one-dimensional blur of signals of that size."""
        g = gaussian_weights(self.std)
        r = len(g) // 2
        position = torch.arange(-r, size + r).unfold(0, len(g), 1)
        if self.border == "replicate":
            position = position.clamp(0, size - 1)
        elif self.border == "circular":
            position = position % size
        else:
            position = size - 1 - (size - 1 - position.abs()).abs()
        rows = torch.arange(size)[:, None].expand_as(position)
        empty = torch.zeros(size, size, dtype=torch.float64)
        return empty.index_put((rows, position), g.expand(position.shape), accumulate=True)


@dataclass(frozen=True, eq=False)
class KernelBlur(Blur):
    """Convolution with any kernel.

    weights: (h, w), no negative values and a positive sum; it is divided by its sum, and continued
    by zeros to an odd square (`squared`). Raises `ValueError` otherwise.
    """

    weights: Tensor = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None:
            raise ValueError("KernelBlur has no kernel; give `weights`, (h, w).")
        object.__setattr__(self, "weights", normalised_kernel(self.weights))

    def kernel(self) -> Tensor:
        """The weights."""
        return self.weights


def gaussian_weights(std: float) -> Tensor:
    """exp(-u^2 / (2 std^2)) on |u| <= round(4 std), float64, divided by its sum."""
    radius = int(4 * std + 0.5)
    u = torch.arange(-radius, radius + 1, dtype=torch.float64)
    g = torch.exp(-0.5 * (u / std) ** 2)
    return g / g.sum()
