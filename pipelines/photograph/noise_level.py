"""How noisy a picture is.

Reference: Chen, Zhu and Heng, "An Efficient Statistical Method for Image Noise Level Estimation"
(ICCV 2015), Algorithm 1.

| paper       | here        | meaning                                                            |
|-------------|-------------|--------------------------------------------------------------------|
| r           | dimensions  | values in a patch, channels * patch^2                              |
| lambda_i    | eigenvalues | of the patches' covariance; ours ascend                            |
| tau         | means       | mean of the smallest m eigenvalues                                 |
| sigma       | the result  | standard deviation of the noise                                    |

Pictures are redundant, so their patches fill few of the r dimensions; noise fills all of them
alike. The smallest eigenvalues are then noise alone, spread evenly about sigma^2: their mean is
their median. A larger one that belongs to the picture pulls the mean above the median.

Where we depart: the paper asks for mean = median, which counts on a tie; we take the largest m
whose mean is not above its median. Patches are 7 pixels wide where there are enough of them, and
smaller in small pictures. Of large pictures a regular grid of patches is read.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PATCHES = (7, 6, 5, 4)  # sides in pixels, the largest that fits is used
ENOUGH = 25  # patches per dimension for an unbiased result
LEAST = 10  # patches per dimension without which there is none
MOST_PATCHES = 2**15


def estimate_noise_level(image: Tensor) -> Tensor:
    """Standard deviation of white Gaussian noise in each picture, (B,) float32, in [-1, 1] units.

    image: (B, C, H, W) in [-1, 1] units, at least 25x25 pixels of three channels, or 16x16 of one.
    What is found is sqrt(noise^2 + own^2), where own is the photograph's grain and finest texture:
    0.001 to 0.015 in most colour photographs of 256x256, up to 0.07 in grey close-ups of sand or
    grass. Noise that was clipped, blurred, enlarged or compressed reads too low; in pictures below
    48x48 it reads up to a tenth too low. A flat picture has 0.
    Raises `ValueError` for a smaller picture, another shape, or NaN or infinite values.
    """
    if image.ndim != 4 or 0 in image.shape:
        raise ValueError(
            f"Noise estimation got a tensor of shape {tuple(image.shape)}; give (B, C, H, W)."
        )
    if not torch.isfinite(image).all():
        raise ValueError("The picture has NaN or infinite values; repair it first.")
    levels = [noise_level(picture) for picture in image.detach().cpu().double()]
    return torch.tensor(levels, dtype=torch.float32, device=image.device)


def patch_side(channels: int, height: int, width: int) -> int:
    """The largest patch of which the picture has enough. Raises `ValueError` without any."""
    for share, sides in ((ENOUGH, PATCHES), (LEAST, PATCHES[-1:])):
        for side in sides:
            patches = max(height - side + 1, 0) * max(width - side + 1, 0)
            if patches >= share * channels * side**2:
                return side
    side = math.ceil(math.sqrt(LEAST * channels) * PATCHES[-1]) + PATCHES[-1] - 1
    raise ValueError(
        f"The picture has {width}x{height} pixels, too few to tell noise from texture; give one of "
        f"{side}x{side} or more, or set the noise level by hand."
    )


def noise_level(picture: Tensor) -> float:
    """The estimate for one picture, (C, H, W) float64. Of a grey one stored as RGB one channel is
    read."""
    if (picture == picture[:1]).all():
        picture = picture[:1]
    patch = patch_side(*picture.shape)
    count = (picture.shape[1] - patch + 1) * (picture.shape[2] - patch + 1)
    stride = math.ceil(math.sqrt(count / MOST_PATCHES))
    patches = F.unfold(picture[None], patch, stride=stride)[0]  # (r, count)
    patches = patches[:, is_lively(patches, picture.shape[0])]
    if not patches.shape[1]:
        return 0.0
    patches = patches - patches.mean(1, keepdim=True)
    eigenvalues = torch.linalg.eigvalsh(patches @ patches.T / patches.shape[1])
    return math.sqrt(max(even_mean(eigenvalues), 0.0))


def is_lively(patches: Tensor, channels: int) -> Tensor:
    """Which patches, (r, count), are not of one colour: noise is nowhere to be seen in a canvas
    that was added, in a drawing's areas or in clipped light. (count,)."""
    values = patches.unflatten(0, (channels, -1))
    return (values != values[:, :1]).flatten(0, 1).any(0)


def even_mean(eigenvalues: Tensor) -> float:
    """tau: the mean of the m smallest, with the largest m where it is not above their median.

    eigenvalues: (r,) float64, ascending.
    """
    m = torch.arange(1, len(eigenvalues) + 1)
    means = eigenvalues.cumsum(0) / m
    medians = (eigenvalues[(m - 1) // 2] + eigenvalues[m // 2]) / 2
    even = means <= medians * (1 + 1e-9)
    even[0] = True
    return float(means[even][-1])
