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
from .comfyui import host

LEVELS = 65535  # of 16 bits; those of 8 bits are among them, 65535 = 255 * 257
NEAR = 2.0**-21  # what a few roundings of float32 leave between a level and what became of it


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

    B may be a multiple of the layout's: consecutive pictures then share an alpha plane. What came
    as levels of 8 or 16 bits and was not changed leaves bit for bit (`settled`).
    """
    return given(rearrange(channels(pixels, layout or Layout()), "b c h w -> b h w c"))


def channels(pixels: Tensor, layout: Layout) -> Tensor:
    """(B, C, H, W) in [-1, 1] -> float32 in [0, 1] on the CPU, with the layout's channels."""
    planes = ((pixels.float().cpu() + 1) / 2).clamp(0, 1)
    if layout.channels == 1:
        planes = planes.mean(1, keepdim=True)
    planes = settled(planes)
    if layout.alpha is not None:
        alpha = layout.alpha.cpu()
        alpha = alpha.repeat_interleave(planes.shape[0] // alpha.shape[0], 0)
        if alpha.shape[-2:] != planes.shape[-2:]:
            size = planes.shape[-2:]
            alpha = settled(F.interpolate(alpha, size=size, mode="bilinear", antialias=True))
        planes = torch.cat([planes, _as_levels(alpha)], 1)
    return planes


def settled(values: Tensor) -> Tensor:
    """Values in [0, 1] float32, those within `NEAR` of a level k / 65535 (so of k / 255) on it.

    2x - 1 drops the last bits of an x below 1/4, as 1 - (1 - x) does, by which alpha comes from
    ComfyUI's masks; its SaveImage cuts 255 x to whole numbers: what lies 1e-9 under a level would
    be saved a whole level darker.
    """
    levels = (values * LEVELS).round() / LEVELS
    return torch.where((values - levels).abs() <= NEAR, levels, values)


def _as_levels(alpha: Tensor) -> Tensor:
    """Planes (B, 1, H, W) that came as levels on them, others as they are."""
    levels = (alpha * LEVELS).round() / LEVELS
    apart = (alpha - levels).abs().amax((1, 2, 3), keepdim=True)
    return torch.where(apart <= NEAR, levels, alpha)


def visible(pixels: Tensor, layout: Layout) -> Tensor:
    """Pixels for a change of size: where alpha is 0, the colours beside it go on.

    What lies hidden there, often black, would be mixed into the rim. Itself without alpha.
    """
    return pixels if layout.alpha is None else _spread(pixels, layout.alpha.to(pixels))


def _spread(colours: Tensor, weight: Tensor) -> Tensor:
    """Colours where the weight, (B, 1, H, W), is 0: the weighted mean of what lies around, from
    the nearest halving that has any; a picture without weight stays as it is."""
    size = weight.shape[-2:]
    if max(size) == 1 or bool((weight > 0).all()):
        return colours
    mass, total = (F.avg_pool2d(x, 2, ceil_mode=True) for x in (weight, colours * weight))
    coarse = _spread(total / mass.clamp_min(torch.finfo(mass.dtype).tiny), mass)
    around = F.interpolate(coarse, size=size, mode="bilinear")
    keep = (weight > 0) | (weight.amax((-2, -1), keepdim=True) == 0)
    return torch.where(keep, colours, around)


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
