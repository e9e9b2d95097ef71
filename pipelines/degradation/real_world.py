"""Unknown degradation as photographs meet it: blur, resizing, noise and JPEG, twice over.

The second-order chain of Real-ESRGAN (Wang et al., ICCV 2021 workshops, arXiv 2107.10833, section
3), with its published parameters and those of two methods that trained on it:

    stage(x) = JPEG(noise(resize(blur(x))))
    y = JPEG(sinc(reduce(stage2(stage1(x)))))  or  sinc(reduce(JPEG(stage2(stage1(x)))))

| strength    | parameters of                                                              |
|-------------|----------------------------------------------------------------------------|
| mild        | our own: one gentle stage, for a camera picture of today                   |
| StableSR    | Wang et al., IJCV 2024 (arXiv 2305.07015), which AdaDiffSR trains on too    |
| InvSR       | Yue et al., CVPR 2025 (arXiv 2412.09013)                                    |
| Real-ESRGAN | the original                                                               |

Kernels are in `random_blur`.

Where we depart: pictures are continued by their last pixels (the official code reflects them, which
no picture smaller than the kernel can be); JPEG is libjpeg's own, through Pillow, at a whole
quality (the official code imitates it to be quick on a GPU); every sample of a batch is drawn for
itself.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from ..noise import damage_seed
from ..options import Options, option
from .random_blur import SMALLEST_KERNEL, Interval, blur_kernel, filtered, sinc_kernel

RESIZERS = ("area", "bilinear", "bicubic")
LARGEST_SINC = 21  # pixels, of the last filter
GREY_NOISE = 0.4  # probability that the three colours share their noise
GAUSSIAN_NOISE = 0.5  # probability; Poisson noise otherwise
MOST_SIDE = 65_500  # pixels, libjpeg's limit


@dataclass(frozen=True)
class Stage:
    """One round of blur, resizing, noise and JPEG; every interval is drawn from uniformly.

    blur, sinc: probability of any blur, and of a sinc among blurs. kernel: largest side, odd
    pixels. deviation: of the kernel, pixels. directions: odds of enlarging, reducing, keeping.
    sizes: factors of resizing. noise: standard deviation of Gaussian noise, of 255. poisson: scale
    of the Poisson noise that an 8-bit picture has. quality: of JPEG.
    """

    blur: float
    sinc: float
    kernel: int
    deviation: Interval
    directions: tuple[float, float, float]
    sizes: Interval
    noise: Interval
    poisson: Interval
    quality: tuple[int, int]


@dataclass(frozen=True)
class Chain:
    """A first stage, a second one with its probability, and that of the last sinc filter."""

    first: Stage
    second: Stage | None = None
    second_order: float = 1.0
    final_sinc: float = 0.8
    quality: tuple[int, int] = (30, 95)


UP_DOWN_KEEP, UP_DOWN_KEEP_2 = (0.2, 0.7, 0.1), (0.3, 0.4, 0.3)
_FIRST = Stage(  # of the original and of InvSR
    1.0, 0.1, 21, (0.2, 3.0), UP_DOWN_KEEP, (0.15, 1.5), (1, 30), (0.05, 3.0), (30, 95)
)
_SECOND = Stage(
    0.8, 0.1, 21, (0.2, 1.5), UP_DOWN_KEEP_2, (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)
)
CHAINS = {
    "mild": Chain(
        Stage(1.0, 0.0, 11, (0.2, 1.0), (0.0, 0.5, 0.5), (0.7, 1.0), (1, 5), (0.05, 0.5), (75, 95)),
        final_sinc=0.0,
        quality=(75, 95),
    ),
    "StableSR": Chain(
        Stage(1.0, 0.1, 21, (0.2, 1.5), UP_DOWN_KEEP, (0.3, 1.5), (1, 15), (0.05, 2.0), (60, 95)),
        Stage(
            0.5, 0.1, 11, (0.2, 1.0), UP_DOWN_KEEP_2, (0.6, 1.2), (1, 12), (0.05, 1.0), (60, 100)
        ),
        quality=(60, 100),
    ),
    "InvSR": Chain(
        _FIRST,
        Stage(0.8, 0.1, 15, (0.2, 1.5), UP_DOWN_KEEP_2, (0.3, 1.2), (1, 25), (0.05, 2.5), (30, 95)),
        second_order=0.5,
    ),
    "Real-ESRGAN": Chain(_FIRST, _SECOND),
}


@dataclass(frozen=True)
class RealWorldDegradation(Options):
    """How badly a good picture is spoilt, and how much smaller it becomes."""

    strength: str = option(
        "StableSR",
        "How badly: 'mild' is a camera picture of today, 'StableSR', 'InvSR' and 'Real-ESRGAN' are "
        "what those methods were trained on, the last the worst.",
        choices=tuple(CHAINS),
    )
    scale: int = option(
        4,
        "The result is so many times smaller: 4 is what the published networks undo, 1 keeps the "
        "size.",
        min=1,
        max=16,
        step=1,
    )


def degrade(image: Tensor, options: RealWorldDegradation, seeds: Sequence[int]) -> Tensor:
    """A low-resolution picture of each sample, rounded to 8 bit.

    image: (B, 3, H, W) float32 in [-1, 1], any size; where `scale` does not divide a side, the
    picture is first continued by its last pixels to the next multiple.
    seeds: one integer per sample; everything that is drawn for sample b depends on seeds[b] alone.
    Returns (B, 3, ceil(H / scale), ceil(W / scale)) float32 in [-1, 1], on the device of `image`.
    Raises `ValueError` for another shape, NaN or infinite values, or another number of seeds.
    """
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"A picture of shape {tuple(image.shape)} came; give (B, 3, H, W).")
    if len(seeds) != image.shape[0]:
        raise ValueError(
            f"The numbers of seeds and pictures are {len(seeds)} and {image.shape[0]}; give one "
            "seed per picture."
        )
    if not torch.isfinite(image).all():
        raise ValueError("The picture has NaN or infinite values; repair it first.")
    if max(image.shape[-2:]) * 3 / 2 > MOST_SIDE:
        raise ValueError(
            f"The picture has {image.shape[-1]}x{image.shape[-2]} pixels; JPEG holds sides up to "
            f"{MOST_SIDE}, and it is enlarged up to 1.5 times: cut it into parts."
        )
    beyond = (0, -image.shape[-1] % options.scale, 0, -image.shape[-2] % options.scale)
    whole = F.pad((image.detach().float() + 1) / 2, beyond, mode="replicate").clamp(0, 1)
    chain = CHAINS[options.strength]
    spoilt = [
        _degrade_one(whole[b : b + 1], chain, options.scale, seed) for b, seed in enumerate(seeds)
    ]
    return 2 * torch.cat(spoilt) - 1


def _degrade_one(x: Tensor, chain: Chain, scale: int, seed: int) -> Tensor:
    """(1, 3, H, W) in [0, 1] -> (1, 3, H / scale, W / scale) in [0, 1]."""
    random = Random(seed)
    generator = torch.Generator().manual_seed(damage_seed(seed) % 2**64)
    height, width = x.shape[-2:]
    small = (height // scale, width // scale)
    x = stage(x, chain.first, (height, width), random, generator)
    if chain.second is not None and random.random() < chain.second_order:
        x = stage(x, chain.second, small, random, generator)
    sinc_last = random.random() < 0.5
    if sinc_last:
        x = jpeg(x, random.randint(*chain.quality))
    x = resize(x, small, random)
    if random.random() < chain.final_sinc:
        side = random.randrange(SMALLEST_KERNEL, LARGEST_SINC + 1, 2)
        x = filtered(x, sinc_kernel(side, random.uniform(math.pi / 3, math.pi)))
    x = x.clamp(0, 1)
    if not sinc_last:
        x = jpeg(x, random.randint(*chain.quality))
    return (x * 255).round().clamp(0, 255) / 255


def stage(
    x: Tensor, known: Stage, size: tuple[int, int], random: Random, generator: torch.Generator
) -> Tensor:
    """One round. x: (1, 3, h, w) in [0, 1]; size: what the factors of resizing refer to."""
    if random.random() < known.blur:
        kernel = blur_kernel(known.kernel, known.deviation, known.sinc, random)
        x = filtered(x, kernel)
    low, high = known.sizes
    direction = random.choices(("up", "down", "keep"), known.directions)[0]
    bounds = {"up": (1.0, max(high, 1.0)), "down": (low, 1.0), "keep": (1.0, 1.0)}[direction]
    factor = random.uniform(*bounds)
    x = resize(x, (max(1, int(size[0] * factor)), max(1, int(size[1] * factor))), random)
    grey = random.random() < GREY_NOISE
    if random.random() < GAUSSIAN_NOISE:
        x = gaussian_noise(x, random.uniform(*known.noise) / 255, grey, generator)
    else:
        x = poisson_noise(x, random.uniform(*known.poisson), grey, generator)
    return jpeg(x.clamp(0, 1), random.randint(*known.quality))


def resize(x: Tensor, size: tuple[int, int], random: Random) -> Tensor:
    """By area, bilinear or bicubic, at random; the latter two alias, as in the official code."""
    mode = random.choice(RESIZERS)
    if x.shape[-2:] == size:
        return x
    corners = {} if mode == "area" else {"align_corners": False}
    return F.interpolate(x, size=size, mode=mode, **corners)


def gaussian_noise(x: Tensor, deviation: float, grey: bool, generator: torch.Generator) -> Tensor:
    """x + deviation n, the same n for all colours where `grey`."""
    shape = (1, 1 if grey else 3, *x.shape[-2:])
    return x + deviation * torch.randn(shape, generator=generator).to(x.device)


def poisson_noise(x: Tensor, scale: float, grey: bool, generator: torch.Generator) -> Tensor:
    """x + scale (Poisson(v p) / v - p): p the picture in 8 bit, v its number of values, a power
    of 2."""
    p = ((x.clamp(0, 1) * 255).round() / 255).cpu()
    if grey:
        from kornia.color import rgb_to_grayscale

        p = (rgb_to_grayscale(p) * 255).round() / 255
    v = 2.0 ** math.ceil(math.log2(p.unique().numel()))
    noise = torch.poisson(p * v, generator=generator) / v - p
    return x + scale * noise.to(x.device)


def jpeg(x: Tensor, quality: int) -> Tensor:
    """(1, 3, h, w) in [0, 1], compressed and opened again by libjpeg, colour at half resolution."""
    import numpy as np
    from PIL import Image

    pixels = (x[0] * 255).round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=2)
    opened = torch.from_numpy(np.array(Image.open(file)))
    return opened.permute(2, 0, 1)[None].to(x) / 255
