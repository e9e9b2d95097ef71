"""A blur of a picture that was enlarged by nearest neighbour, in polyphase form.

With x enlarged f times, position f i + a of the blurred picture (a = 0 .. f - 1) is

    y[f i + a] = sum_j x[j] k_a[i - j],    k_a[m] = sum of k[t] over floor((a - t) / f) = -m

along each axis: f^2 convolutions of the small picture in place of one of the large picture. The
transform of the small picture serves them all, which halves the cost at the coarse levels of
SubDAPS++.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .contract import Operator
from .framing import fast_size, unframed


@dataclass(frozen=True, eq=False)
class UpsampledBlur(Operator):
    """A U: nearest enlargement by `factor`, then true convolution with a replicated border.

    kernel: (k, k), odd, with sum 1.
    """

    kernel: Tensor
    factor: int

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, factor h, factor w)."""
        height, width = x.shape[-2:]
        q, size = self._reach, self._size(height, width)
        beyond = (q, size[1] - width - q, q, size[0] - height - q)  # to the frame's end: no copy
        spectrum = torch.fft.rfft2(F.pad(x, beyond, mode="replicate"))[:, :, None, None]
        phases = torch.fft.irfft2(spectrum * self._transfer(size, x), s=size)[..., 2 * q :, 2 * q :]
        return rearrange(phases[..., :height, :width], "b c p q h w -> b c (h p) (w q)")

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(A U x, u -> U^T A^T u)."""
        height, width = x.shape[-2:]
        q, size = self._reach, self._size(height, width)
        conjugate = self.constant(
            ("conjugate", size, x.dtype, x.device),
            lambda: self._transfer(size, x).conj().resolve_conj(),
        )

        def adjoint(u: Tensor) -> Tensor:
            f = self.factor
            phases = rearrange(u, "b c (h p) (w q) -> b c p q h w", p=f, q=f)
            framed = F.pad(
                phases, (2 * q, size[1] - 2 * q - width, 2 * q, size[0] - 2 * q - height)
            )
            gathered = torch.fft.rfft2(framed).mul_(conjugate).sum((2, 3))
            small = torch.fft.irfft2(gathered, s=size)
            return unframed(self, small, (height, width), q, "replicate")

        return self(x), adjoint

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size before enlarging."""
        return height // self.factor, width // self.factor

    @property
    def _reach(self) -> int:
        """q: by how many small pixels the picture is continued on each side."""
        radius = self.kernel.shape[-1] // 2
        return -(-radius // self.factor)

    def _size(self, height: int, width: int) -> tuple[int, int]:
        return fast_size(height + 2 * self._reach), fast_size(width + 2 * self._reach)

    def _transfer(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """Half spectra of the phases' kernels, (f, f, size[0], size[1] // 2 + 1)."""
        key = (size, like.dtype, like.device)
        return self.constant(key, lambda: torch.fft.rfft2(self._phases().to(like), s=size))

    def _phases(self) -> Tensor:
        """k_a along both axes: (f, f, 2 q + 1, 2 q + 1), m = -q first."""
        f, q, radius = self.factor, self._reach, self.kernel.shape[-1] // 2
        a, t = torch.arange(f)[:, None], torch.arange(-radius, radius + 1)
        m = q - torch.div(a - t, f, rounding_mode="floor")  # (f, k)
        one_hot = F.one_hot(m, 2 * q + 1).to(self.kernel)
        return torch.einsum("atm,ts,bsn->abmn", one_hot, self.kernel, one_hot)
