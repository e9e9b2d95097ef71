"""A VAE of ComfyUI as the codec of a latent prior."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .host import comfy
from .model_weights import DERIVATIVE_MEMORY, Residency, asked, loose, whole


@dataclass(frozen=True, eq=False)
class VAECodec:
    """Pixels <-> the space of a latent diffusion model, through a VAE of ComfyUI.

    factor: pixels per latent along a side. latent_format: the model's, which scales latents.
    to_range: (a, b) with a d + b in [-1, 1] for what the decoder gives, d.
    """

    vae: Any
    latent_format: Any
    factor: int
    to_range: tuple[float, float] = (1.0, 0.0)
    residency: Residency = field(default_factory=Residency)

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent_format", loose(self.latent_format))

    @cached_property
    def patcher(self) -> Any:
        """The autoencoder's, for derivatives; see `model_weights.whole`."""
        return whole(self.vae.patcher)

    def encode(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] -> (B, c, H / factor, W / factor), the mode of the posterior."""
        vae = self.vae
        self._bring(image.shape, vae.memory_used_encode(image.shape, vae.vae_dtype))

        def ask() -> Tensor:
            pixels = vae.process_input((image + 1) / 2).to(vae.device, vae.vae_dtype)
            return self.patcher.model.encode(pixels).to(image.device).float()

        return self.latent_format.process_in(asked([self.patcher], image, ask))

    def decode(self, z: Tensor) -> Tensor:
        """(B, c, h, w) -> (B, 3, factor h, factor w), in [-1, 1] but not clipped."""
        vae, (a, b) = self.vae, self.to_range
        memory = DERIVATIVE_MEMORY * vae.memory_used_decode(z.shape, vae.vae_dtype)
        self._bring(z.shape, memory)

        def ask() -> Tensor:
            latents = self.latent_format.process_out(z).to(vae.device, vae.vae_dtype)
            return self.patcher.model.decode(latents).to(z.device).float()

        fused = comfy("comfy.model_management").xformers_enabled_vae()
        with self.plain_attention() if fused else nullcontext():
            decoded = asked([self.patcher], z, ask)
        return decoded if (a, b) == (1.0, 0.0) else a * decoded + b

    def process_latent_in(self, samples: Tensor) -> Tensor:
        """The samples of a LATENT -> z; see `LatentCodec`."""
        return self.latent_format.process_in(samples)

    def process_latent_out(self, z: Tensor) -> Tensor:
        """z -> the samples of a LATENT."""
        return self.latent_format.process_out(z)

    def preview(self, z: Tensor) -> Tensor:
        """ComfyUI's own quick picture, a linear map of the channels: (B, 3, h, w)."""
        factors = getattr(self.latent_format, "latent_rgb_factors", None)
        if factors is None:
            return z[:, :1].expand(-1, 3, -1, -1)
        bias = getattr(self.latent_format, "latent_rgb_factors_bias", None) or [0.0] * 3
        weights, offset = z.new_tensor(factors), z.new_tensor(bias)[:, None, None]
        return torch.einsum("bchw,cr->brhw", z, weights) + offset

    @contextmanager
    def plain_attention(self) -> Iterator[None]:
        """The autoencoder's attention written out, for derivatives that fused kernels lack."""
        plain = comfy("comfy.ldm.modules.diffusionmodules.model").normal_attention
        modules = self.patcher.model.modules()
        blocks = [m for m in modules if "optimized_attention" in vars(m)]
        kept = [block.optimized_attention for block in blocks]
        try:
            for block in blocks:
                block.optimized_attention = plain
            yield
        finally:
            for block, attention in zip(blocks, kept, strict=True):
                block.optimized_attention = attention

    def _bring(self, shape: torch.Size, memory: float) -> None:
        """The autoencoder onto its device, with room for pictures or latents of this shape."""
        load = comfy("comfy.model_management").load_models_gpu
        given = {"memory_required": memory, "force_full_load": True}
        self.residency.bring(("vae", shape), lambda: load([self.patcher], **given))
