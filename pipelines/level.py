"""What a sampler works on: a canvas of pixels or latents, at one of several resolutions."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from ..models.codec import IDENTITY, Codec, Identity
from .measurement import Measurement
from .operators.canvas import Crop, NearestUpsample, upsample
from .operators.compose import Compose
from .operators.contract import Operator
from .operators.decode import ThroughDecoder


def level_operator(
    measurement: Measurement, canvas: tuple[int, int], factor: int, codec: Codec = IDENTITY
) -> Operator:
    """A from the state of a level: decoding, nearest upsampling, crop to the picture, degradation.

    canvas: (H', W') in pixels at full resolution. factor: how many times smaller the level is.
    """
    operator = pixel_operator(measurement, canvas, factor)
    return operator if isinstance(codec, Identity) else ThroughDecoder(codec, operator)


def pixel_operator(measurement: Measurement, canvas: tuple[int, int], factor: int) -> Operator:
    """A from the level's pixels."""
    cropped = canvas != measurement.image_size
    if factor > 1 and not cropped and (quicker := measurement.operator.upsampled(factor)):
        return quicker
    chain: list[Operator] = []
    if factor > 1:
        chain.append(NearestUpsample(factor))
    if cropped:
        chain.append(Crop(*measurement.image_size))
    return Compose((*chain, measurement.operator)) if chain else measurement.operator


def canvas_size(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The smallest (H', W') >= (H, W) whose sides are multiples of `multiple`."""
    height, width = (math.ceil(n / multiple) * multiple for n in size)
    return height, width


def enlarge(x: Tensor, factor: int, codec: Codec, smooth: bool = False) -> Tensor:
    """The state of a picture `factor` times as large, through the codec: every pixel repeated, or
    by bicubic interpolation."""
    pixels = codec.decode(x)
    if smooth:
        return codec.encode(F.interpolate(pixels, scale_factor=factor, mode="bicubic"))
    return codec.encode(upsample(pixels, factor))


def picture(x: Tensor, size: tuple[int, int], codec: Codec = IDENTITY) -> Tensor:
    """The picture of a state at full resolution: (B, C, H', W') or its latent -> (B, C, H, W)."""
    return codec.decode(x)[..., : size[0], : size[1]]
