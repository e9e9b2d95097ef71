"""Quality block by block: how close a picture is to a reference, and how much detail it shows.

The region entropy of AdaDiffSR (ECCV 2024, arXiv 2410.17752) is a sum of image quality metrics of
a region. The paper takes PSNR, LPIPS, AHIQ and NLPD against a reference, and BRISQUE and MUSIQ
without one. Here they are metrics that need no trained weights, each mapped to [0, 1] with 1 best,
one value per block of a picture, and equally weighted:

    R^F = mean of  PSNR  (p - 20) / 20, so that error below 40 dB, which nobody sees, counts nothing
                   SSIM  as it is
                   NLPD  1 - n / 0.6
                   GMSD  1 - d / 0.3
    R^N = mean of  bits of the finest detail     log2(1 + E / eps^2) / log2(1 + 1 / eps^2)
                   bits of the block's activity  the same of its variance

all clipped to [0, 1] but the last two, with eps = 0.05 as in `information_gain`. NLPD is that of
Laparra et al. (2017) with three bands of a pyramid, and binomial neighbourhoods where the authors
fitted them to pictures.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metrics import SSIM_WINDOW, gradient_similarity
from .information_gain import BLOCK, VISIBLE, laplacian

METRICS = "PSNR-Y, SSIM, NLPD, GMSD; bits of detail and activity"
WORST_PSNR, BEST_PSNR = 20.0, 40.0  # dB
WORST_NLPD, WORST_GMSD = 0.6, 0.3
BANDS = 3  # of the pyramid, so that a block of 8 pixels is one pixel of what remains
BAND_CONSTANT, REST_CONSTANT = 0.17, 4.86  # the authors'


def full_reference(x: Tensor, reference: Tensor, block: int = BLOCK) -> Tensor:
    """R^F of every block, (B, H / block, W / block) in [0, 1], 1 where x is the reference.

    x, reference: (B, 3, H, W) in [-1, 1], the former is clipped. block: a multiple of 8 that
    divides H and W. Raises `ValueError` where it does not.
    """
    if block % BLOCK or x.shape[-2] % block or x.shape[-1] % block:
        raise ValueError(
            f"The pictures have {x.shape[-1]}x{x.shape[-2]} pixels and the blocks {block}; give "
            f"blocks of a multiple of {BLOCK} that divides both sides."
        )
    x = x.clamp(-1, 1)
    a, b = luma(x), luma(reference)
    parts = (
        psnr_quality(a, b, block),
        ssim_quality(a, b, block),
        1 - nlpd_map(a, b, block) / WORST_NLPD,
        1 - gmsd_map(x, reference, block) / WORST_GMSD,
    )
    return torch.stack([part.clamp(0, 1) for part in parts]).mean(0)


def no_reference(state: Tensor) -> Tensor:
    """R^N of every block of a state (pixels or latents), (B, C, h, w) -> (B, h / 8, w / 8)."""
    fine = F.avg_pool2d(laplacian(state).square(), BLOCK).mean(1)
    mean = F.avg_pool2d(state, BLOCK)
    variance = (F.avg_pool2d(state.square(), BLOCK) - mean.square()).clamp(min=0).mean(1)
    return (in_bits(fine) + in_bits(variance)) / 2


def in_bits(energy: Tensor) -> Tensor:
    """0 for nothing to be seen, 1 for a mean square of 1."""
    return torch.log1p(energy / VISIBLE**2) / math.log1p(1 / VISIBLE**2)


def luma(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [-1, 1] -> (B, 1, H, W) in [0, 1]."""
    from kornia.color import rgb_to_grayscale

    return rgb_to_grayscale((pixels + 1) / 2)


def psnr_quality(a: Tensor, b: Tensor, block: int) -> Tensor:
    """(p - 20) / 20 of every block of luma, (B, rows, columns)."""
    error = F.avg_pool2d((a - b).square(), block)[:, 0]
    decibels = -10 * torch.log10(error.clamp(min=1e-12))
    return (decibels - WORST_PSNR) / (BEST_PSNR - WORST_PSNR)


def ssim_quality(a: Tensor, b: Tensor, block: int) -> Tensor:
    """Mean structural similarity of every block of luma."""
    from kornia.metrics import ssim

    return F.avg_pool2d(ssim(a, b, SSIM_WINDOW), block)[:, 0]


def nlpd_map(a: Tensor, b: Tensor, block: int) -> Tensor:
    """Normalised Laplacian pyramid distance of every block of luma, 0 for equal ones.

    Each band z becomes z / (c + mean of |z| around); the distance is the mean over bands of the rms
    difference in the block.
    """
    total, size = torch.zeros(()), block
    for band in range(BANDS + 1):
        last = band == BANDS
        (za, a), (zb, b) = ((a, a), (b, b)) if last else (split_band(a), split_band(b))
        constant = REST_CONSTANT if last else BAND_CONSTANT
        da, db = (z / (constant + smooth(z.abs())) for z in (za, zb))
        rms = F.avg_pool2d((da - db).square(), size)[:, 0].sqrt()
        total, size = total + rms / (BANDS + 1), size // 2
    return total


def split_band(a: Tensor) -> tuple[Tensor, Tensor]:
    """A picture less its enlarged half, and that half."""
    half = smooth(a)[..., ::2, ::2]
    whole = F.interpolate(half, size=a.shape[-2:], mode="bilinear", align_corners=False)
    return a - smooth(whole), half


def smooth(x: Tensor) -> Tensor:
    """[1 4 6 4 1] / 16 along both sides, replicated borders."""
    kernel = x.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    p = F.pad(x, (2, 2, 2, 2), mode="replicate")
    return F.conv2d(F.conv2d(p, kernel[None, None, None]), kernel[None, None, :, None])


def gmsd_map(x: Tensor, reference: Tensor, block: int) -> Tensor:
    """Gradient magnitude similarity deviation within every block, 0 for equal ones."""
    similarity = gradient_similarity(x, reference)
    mean = F.avg_pool2d(similarity, block // 2)
    variance = F.avg_pool2d(similarity.square(), block // 2) - mean.square()
    return variance.clamp(min=0).sqrt()[:, 0]
