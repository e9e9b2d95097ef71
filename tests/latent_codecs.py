"""Codecs, priors and degradations that the tests of latent priors share."""

from dataclasses import dataclass, field

import torch
from einops import rearrange

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.schedule import Schedule

STD, NOISE = 0.5, 0.1  # the Gaussian prior's, and the measurement's


class Mixing:
    """A linear orthogonal codec: every 2x2x3 block of pixels, mixed into 12 channels."""

    factor = 2

    def __init__(self, gain: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(3)
        self.q = torch.linalg.qr(torch.randn(12, 12, generator=generator))[0]
        self.gain, self.decoded = gain, 0

    def encode(self, image):
        blocks = rearrange(image, "b c (h p) (w q) -> b (c p q) h w", p=2, q=2)
        return torch.einsum("oc,bchw->bohw", self.q.to(image), blocks) / self.gain

    def decode(self, z):
        self.decoded += 1
        blocks = torch.einsum("oc,bohw->bchw", self.q.to(z), z) * self.gain
        return rearrange(blocks, "b (c p q) h w -> b c (h p) (w q)", p=2, q=2)


class Curved(Mixing):
    """The same, with a nonlinearity behind it."""

    def decode(self, z):
        x = super().decode(z)
        return torch.sin(x) + 0.1 * x.roll(1, -1) ** 2


class Fused(Mixing):
    """A decoder with fused attention between its pixels, as some autoencoders have."""

    def decode(self, z):
        x = super().decode(z)
        q = rearrange(x, "b c h w -> b 1 (h w) c").contiguous()
        y = torch.nn.functional.scaled_dot_product_attention(q, q, q)
        return x + rearrange(y, "b 1 (h w) c -> b c h w", h=x.shape[-2])


@dataclass(frozen=True, eq=False)
class Warped:
    """A nonlinear denoiser of latents."""

    codec: Mixing
    spec: PriorSpec = field(default_factory=lambda: PriorSpec(channels=12, multiple_of=2))

    def denoise(self, x, sigma, factor=1):
        s = sigma[:, None, None, None]
        return torch.sin(x + 0.3 * x.roll(1, -1)) / (1 + s)


def latent_prior(codec=None, **spec) -> GaussianPrior:
    spec = PriorSpec(channels=12, **spec)
    return GaussianPrior(0.0, STD, spec=spec, codec=codec or Mixing())


def blur() -> KernelBlur:
    weights = torch.tensor([[0.0, 3.0, 1.0], [0.5, 4.0, 0.0], [0.0, 0.2, 2.0]])
    return KernelBlur(border="replicate", weights=weights)


def fixed(*sigmas: float, factors: tuple[int, ...] | None = None) -> Schedule:
    levels = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    return Schedule(levels, factors or (1,) * len(sigmas))
