"""Codec: between pixels and the space a prior works in."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Codec(Protocol):
    """Pixels <-> latent. `factor` is how many pixels one latent pixel spans along a side.

    Samplers go back and forth through `torch.func.vjp` and `jvp` of `decode`.
    A codec may also offer
    `preview(z) -> (B, 3, h, w)` in about [-1, 1], a cheap picture of a latent (see `preview`);
    `plain_attention()`, a context in which `decode` takes no fused attention, which has no
    forward-mode derivative.
    """

    @property
    def factor(self) -> int:
        """Pixels per latent pixel along a side, 1 or more."""
        ...

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, c, H / factor, W / factor)."""
        ...

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, factor h, factor w) in [-1, 1]."""
        ...


@runtime_checkable
class LatentCodec(Codec, Protocol):
    """A codec whose states are scaled LATENTs. ComfyUI's LATENT holds what the VAE gives; the model
    works on that scaled (and shifted) to about unit variance, as the codec's own latents are.
    """

    def process_latent_in(self, samples: Tensor) -> Tensor:
        """The samples of a LATENT -> z, same shape."""
        ...

    def process_latent_out(self, z: Tensor) -> Tensor:
        """z -> the samples of a LATENT, same shape."""
        ...


class Identity:
    """The codec of a pixel prior: the latent is the picture."""

    factor = 1

    def encode(self, image: Tensor) -> Tensor:
        """The image."""
        return image

    def decode(self, z: Tensor) -> Tensor:
        """The image."""
        return z


IDENTITY = Identity()


def preview(codec: Codec, z: Tensor) -> Tensor:
    """A picture of the latents, not decoded: (B, c, h, w) -> (B, 3, h, w) in about [-1, 1].

    The codec's own `preview` where it has one; else the first three channels (the last repeated
    where there are fewer) over twice their standard deviation. Pictures of a pixel prior stay.
    """
    if isinstance(codec, Identity):
        return z
    if own := getattr(codec, "preview", None):
        return own(z)
    planes = z[:, [min(c, z.shape[1] - 1) for c in range(3)]]
    spread = planes.std((-2, -1), keepdim=True, correction=0)
    return (planes - planes.mean((-2, -1), keepdim=True)) / (2 * spread.clamp(min=1e-6))
