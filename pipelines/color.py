"""A restored picture keeps its detail and takes the colours of a reference.

References: wavelet and AdaIN colour correction of StableSR (Wang et al., IJCV 2024, arXiv
2305.07015), which InvSR (arXiv 2412.09013) uses too; AdaIN itself is of Huang and Belongie (2017,
arXiv 1703.06868). Y'CbCr is ITU-R BT.601, Lab is CIE 1976 under D65.

Pictures are (B, 3, H, W) float, [-1, 1] where they can be shown; nothing is clipped here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .resizing import resized

WAVELET_LEVELS = 5
ADAIN_EPSILON = 1e-5  # added to variances of pictures in [0, 1]


def match_colors(image: Tensor, reference: Tensor, method: str, strength: float = 1.0) -> Tensor:
    """image + strength (matched - image), with the colours of a reference that may be of any size.

    image, reference: (B, 3, H, W) and (B, 3, h, w) in [-1, 1]. A reference of another size is
    resized to (H, W) by bicubic interpolation with antialiasing. method: a key of `METHODS`.
    strength: in [0, 1].
    Returns (B, 3, H, W), which may leave [-1, 1].
    Raises `ValueError` for an unknown method, a strength outside its interval, or batches that
    differ.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}; give a number in [0, 1].")
    if image.shape[0] != reference.shape[0]:
        raise ValueError(
            f"The numbers of pictures in image and reference are {image.shape[0]} and "
            f"{reference.shape[0]}; give as many."
        )
    matched = METHODS[method](image, resized(reference, (image.shape[-2], image.shape[-1])))
    return torch.lerp(image, matched, strength)


def wavelet(image: Tensor, guide: Tensor) -> Tensor:
    """The fine detail of the image on the low frequencies of the guide.

    high(image) + low(guide) = image + low(guide - image), because low = `low_band` is linear.
    """
    return image + low_band(guide - image)


def low_band(picture: Tensor) -> Tensor:
    """What is left of (B, C, H, W) after five levels of the a-trous wavelet transform.

    Level i = 0 .. 4 blurs by (1, 2, 1) / 4 along both sides with 2^i pixels between the taps; the
    border pixel is repeated. The levels' sum of differences is what this leaves out.
    """
    for level in range(WAVELET_LEVELS):
        picture = blur_columns(blur_columns(picture, 2**level).mT, 2**level).mT
    return picture.contiguous()


def blur_columns(picture: Tensor, gap: int) -> Tensor:
    """(p[y - gap] + 2 p[y] + p[y + gap]) / 4 along the last side but one, border repeated."""
    padded = F.pad(picture, (0, 0, gap, gap), mode="replicate")
    height = picture.shape[-2]
    outer = padded[..., :height, :] + padded[..., 2 * gap :, :]
    return (outer + 2 * picture) / 4


def adain(image: Tensor, guide: Tensor) -> Tensor:
    """Every channel gets the guide's mean and standard deviation over the whole picture.

    (x - mu_x) / s_x s_g + mu_g with s^2 = unbiased variance + 1e-5 in [0, 1] units.
    """
    mean, std = statistics(image)
    guide_mean, guide_std = statistics(guide)
    return (image - mean) / std * guide_std + guide_mean


def statistics(picture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel, (B, C, 1, 1) each, of (B, C, H, W) in [-1, 1]."""
    pixels = picture.shape[-2] * picture.shape[-1]
    correction = int(pixels > 1)  # one pixel has no unbiased variance
    variance, mean = torch.var_mean(picture, (2, 3), correction=correction, keepdim=True)
    return mean, (variance + 4 * ADAIN_EPSILON).sqrt()


def ycbcr(image: Tensor, guide: Tensor) -> Tensor:
    """The luma Y' of the image with Cb and Cr of the guide: guide + Y'(image - guide).

    Cb and Cr are differences to Y', so adding the same to R, G and B keeps them. The official code
    clips the intermediate Y'CbCr picture, ours does not: strong colours of the guide survive.
    """
    from kornia.color import rgb_to_grayscale

    return guide + rgb_to_grayscale(image - guide)


def lab(image: Tensor, guide: Tensor) -> Tensor:
    """The lightness L* of the image with a* and b* of the guide.

    One picture at a time: powers are rounded by where a pixel lies in memory.
    """
    from kornia.color import lab_to_rgb, rgb_to_lab

    def one(pair: tuple[Tensor, Tensor]) -> Tensor:
        (own, other) = (rgb_to_lab((picture[None] + 1) / 2) for picture in pair)
        return 2 * lab_to_rgb(torch.cat([own[:, :1], other[:, 1:]], 1), clip=False) - 1

    return torch.cat([one(pair) for pair in zip(image, guide, strict=True)])


METHODS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "wavelet": wavelet,
    "AdaIN": adain,
    "YCbCr": ycbcr,
    "Lab": lab,
}
"""Name -> (image, guide of the same shape) -> the image with the guide's colours."""
