"""From a latent to the measurement: the decoder, then the degradation of the decoded picture.

Reference: LatentDAPS (DAPS, arXiv 2407.01521, section 3.3): with a latent prior the state z is a
latent, and the measurement y = A(D(z)) + noise sees it through the decoder D, so that every
measurement update works on the nonlinear operator A D.

What it costs, in passes of the decoder: `vjp` one and, when its pullback is called, one more; `jvp`
2.5 (a KL decoder on the CPU). A step of conjugate gradients takes all three: 4.5.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...models.codec import Codec
from ..step import column
from ..sums import dot
from .adjoint import check_nonlinear
from .contract import Operator

DIFFERENCE = 0.05  # |h v| / |z| of the central difference


@dataclass(frozen=True, eq=False)
class ThroughDecoder(Operator):
    """A D: latent (B, c, h, w) -> the measurement of its decoded picture.

    operator: A, takes pictures of (B, 3, f h, f w) in [-1, 1] with f = codec.factor. Never called
    linear, whatever A is, since decoders are not.
    """

    codec: Codec
    operator: Operator
    linear: ClassVar[bool] = False

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        """Whether A is; decoders are."""
        return self.operator.smooth

    def of_sample(self, b: int, count: int) -> Operator:
        """A's own, behind the same decoder."""
        alone = self.operator.of_sample(b, count)
        return self if alone is self.operator else ThroughDecoder(self.codec, alone)

    def forward(self, x: Tensor) -> Tensor:
        """A(D(z))."""
        return self.operator(self.codec.decode(x))

    def surrogate(self, x: Tensor) -> Tensor:
        """A's stand-in at D(z)."""
        return self.operator.surrogate(self.codec.decode(x))

    def jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """J_A(D(z)) J_D(z) v: picture and derivative leave the decoder in one pass."""
        picture, tangent = push(self.codec, x, v)
        return self.operator.jvp(picture, tangent)

    def vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """A(D(z)) and u -> J_D^T J_A^T u."""
        picture, through_decoder = torch.func.vjp(self.codec.decode, x)[:2]
        y, through_operator = self.operator.vjp(picture)
        return y, lambda u: through_decoder(through_operator(u))[0]

    def checked_vjp(self, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The decoder by itself, then A at what it gives."""
        picture, through_decoder = torch.func.vjp(self.codec.decode, x)[:2]
        name = f"The decoder ({type(self.codec).__name__})"
        check_nonlinear(name, self.codec.decode, x, lambda u: through_decoder(u)[0], picture)
        y, through_operator = self.operator.trusted_vjp(picture)
        return y, lambda u: through_decoder(through_operator(u))[0]

    def gain(self, z: Tensor, iterations: int = 4) -> Tensor:
        """About the largest eigenvalue of J_D^T J_D at z, (B,), by power iteration from z.

        How many times the decoder multiplies a squared step; `Langevin` divides its steps by it.
        """
        through_decoder = torch.func.vjp(self.codec.decode, z)[1]
        v, size = z, norms(z).clamp(min=1e-12)
        for _ in range(iterations):
            v = v / column(size, v)
            v = through_decoder(push(self.codec, z, v)[1])[0]
            size = norms(v).clamp(min=1e-12)
        return size

    @property
    def networks(self) -> tuple[torch.nn.Module, ...]:
        """A's; the decoder belongs to the prior."""
        return self.operator.networks

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """(h, w) of the latent."""
        height, width = self.operator.input_size(height, width)
        return height // self.codec.factor, width // self.codec.factor

    def guess(self, y: Tensor) -> Tensor:
        """The encoded guess of A."""
        return self.codec.encode(self.operator.guess(y))

    def observe(self, y: Tensor) -> Tensor:
        """A's."""
        return self.operator.observe(y)

    def residual(self, difference: Tensor) -> Tensor:
        """A's."""
        return self.operator.residual(difference)

    def silence(self, y: Tensor) -> Tensor:
        """A's."""
        return self.operator.silence(y)


def push(codec: Codec, z: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """(D(z), J_D(z) v).

    In forward mode, where torch has a derivative for every layer. It has none for fused attention,
    so the plain form is asked for: of torch, and of a codec that has `plain_attention`. A decoder
    that takes a fused one all the same gets a central difference (`difference`). torch's forward
    mode of group normalisation wants the usual order of memory, which networks may have changed.
    """
    z, v = z.contiguous(), v.contiguous()
    try:
        with sdpa_kernel(SDPBackend.MATH), getattr(codec, "plain_attention", nullcontext)():
            picture, tangent = torch.func.jvp(codec.decode, (z,), (v,))[:2]
            return picture, tangent
    except NotImplementedError:
        return codec.decode(z), difference(codec.decode, z, v)


def difference(decode: Callable[[Tensor], Tensor], z: Tensor, v: Tensor) -> Tensor:
    """(D(z + h v) - D(z - h v)) / 2 h with h = 0.05 |z| / |v| per sample: J_D v to O(h^2).

    Within 1 % for a KL decoder in float32, and within 20 % in bfloat16, where a smaller h drowns in
    rounding. Conjugate gradients use it for the length of a step alone; the residual stays exact.
    """
    h = DIFFERENCE * norms(z).clamp(min=1e-3) / norms(v).clamp(min=1e-12)
    step = column(h, z)
    return (decode(z + step * v) - decode(z - step * v)) / (2 * step)


def norms(v: Tensor) -> Tensor:
    """|v| per sample: (B, ...) -> (B,), each summed by itself."""
    return dot(v, v).sqrt()
