"""The only place where layout, range and ComfyUI's number format change.

ComfyUI's IMAGE is (B, H, W, C) in [0, 1] with C = 1, 3 or 4; its MASK is (B, H, W) in [0, 1]; a
LATENT's samples are (B, C, h, w). They come in any float format and on any device, and leave in the
one that ComfyUI asks for (`host.outputs`): float32 on the CPU unless the user has it otherwise.
Everything inside the pack is (B, 3, H, W) float32 in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor

from ..pipelines.measurement import Measurement
from . import host


@dataclass(frozen=True, eq=False)
class Layout:
    """How a picture came: its channels, and its alpha plane, (B, 1, H, W) in [0, 1], if it had
    one."""

    channels: int = 3
    alpha: Tensor | None = None


@dataclass(frozen=True, eq=False)
class PictureMeasurement(Measurement):
    """A measurement that remembers how its picture came, so that the restored one leaves alike."""

    layout: Layout = Layout()


def to_pixels(image: Tensor, name: str = "image") -> tuple[Tensor, Layout]:
    """IMAGE -> ((B, 3, H, W) in [-1, 1], its layout). Grey becomes three equal channels; alpha is
    kept.

    Raises `TypeError` for what is no IMAGE, `ValueError` for another channel count, an empty
    picture, or NaN and infinite pixels.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"{name} is a {type(image).__name__}; connect an IMAGE.")
    if image.ndim != 4 or 0 in image.shape or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"{name} has shape {tuple(image.shape)}; give (batch, height, width, channels) with 1 "
            "(grey), 3 (RGB) or 4 (RGBA) channels."
        )
    if not torch.isfinite(image).all():
        raise ValueError(f"{name} has NaN or infinite pixels; repair it before restoring.")
    planes = rearrange(image.float(), "b h w c -> b c h w")
    colours, alpha = (planes[:, :3], planes[:, 3:]) if planes.shape[1] == 4 else (planes, None)
    if colours.shape[1] == 1:
        colours = repeat(colours, "b 1 h w -> b 3 h w")
    return 2 * colours.contiguous() - 1, Layout(planes.shape[1], alpha)


def to_image(pixels: Tensor, layout: Layout | None = None) -> Tensor:
    """(B, C, H, W) in [-1, 1] -> IMAGE, clipped to [0, 1], in the layout it came in.

    B may be a multiple of the layout's: consecutive pictures then share an alpha plane.
    """
    return given(rearrange(channels(pixels, layout or Layout()), "b c h w -> b h w c"))


def channels(pixels: Tensor, layout: Layout) -> Tensor:
    """(B, C, H, W) in [-1, 1] -> float32 in [0, 1] on the CPU, with the layout's channels."""
    planes = ((pixels.float().cpu() + 1) / 2).clamp(0, 1)
    if layout.channels == 1:
        planes = planes.mean(1, keepdim=True)
    if layout.alpha is not None:
        alpha = layout.alpha.cpu()
        alpha = alpha.repeat_interleave(planes.shape[0] // alpha.shape[0], 0)
        if alpha.shape[-2:] != planes.shape[-2:]:
            alpha = F.interpolate(alpha, size=planes.shape[-2:], mode="bilinear", antialias=True)
        planes = torch.cat([planes, alpha], 1)
    return planes


def to_planes(mask: Tensor, name: str = "mask") -> Tensor:
    """MASK (B, H, W) or (H, W) -> (B, 1, H, W) float32. Raises for what is no finite mask."""
    if not isinstance(mask, Tensor):
        raise TypeError(f"{name} is a {type(mask).__name__}; connect a MASK.")
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}; give (batch, height, width).")
    if not torch.isfinite(mask).all():
        raise ValueError(f"{name} has NaN or infinite values; give values from 0 to 1.")
    planes = mask if mask.ndim == 3 else mask[None]
    return rearrange(planes.float(), "b h w -> b 1 h w")


def to_mask(planes: Tensor) -> Tensor:
    """(B, 1, H, W) -> MASK."""
    return given(rearrange(planes, "b 1 h w -> b h w"))


def to_latent(samples: Tensor) -> dict[str, Any]:
    """(B, C, h, w) -> LATENT."""
    return {"samples": given(samples)}


def given(tensor: Tensor) -> Tensor:
    """A tensor as ComfyUI wants it from a node."""
    device, dtype = host.outputs()
    return tensor.to(device, dtype).contiguous()


def to_preview(pixels: Tensor):
    """The first picture of (B, 3, H, W) in [-1, 1] as a PIL image."""
    from PIL import Image

    bytes_ = (channels(pixels[:1], Layout())[0] * 255).round().byte()
    return Image.fromarray(rearrange(bytes_, "c h w -> h w c").contiguous().numpy())
