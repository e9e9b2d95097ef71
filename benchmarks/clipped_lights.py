"""Blurred photographs whose sky, highlights or lamps are clipped, with the kernel known.

Run: python benchmarks/clipped_lights.py. Windows of 144 px of photographs made brighter than white
before they are blurred: `sky`, the camera man 1.5 times as bright; `lamps`, the rocket at night
with what is bright up to five times white; `cup`, coffee 1.4 times as bright. Noise of .01, clipped
and rounded to 8 bits; restored as `undegrade sharpen` does it, four ways:

- left out: clipped pixels are not compared (how it was done before);
- at least white: they are bounds (`AtLeast`), as Estimate Blur Kernel's operator has them;
- shown: the same, but light beyond white is not kept from the network (`beyond_white`);
- not ahead: the same, without its over-relaxation.

PSNR against the clipped truth in the clipped pixels, within a kernel's reach of them, and in the
rest, in dB. --picture FILE also writes blurred, left out, at least white and truth, side by side.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pack
import torch
import torch.nn.functional as F
from blind import restored
from photos import read_photo
from PIL import Image
from torch import Tensor

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.blind.seen import CLIPPED, bounded_blur, observed_blur
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur
from undegrade.pipelines.subdaps import beyond_white

SIDE, NOISE = 144, 0.01
AHEAD = beyond_white.AHEAD


def window(name: str, top: int, left: int) -> Tensor:
    """Of a photograph, (1, 3, SIDE, SIDE) in [0, 1]."""
    return (read_photo(name, 256)[..., top : top + SIDE, left : left + SIDE] + 1) / 2


def scenes() -> dict[str, Tensor]:
    """The light of each, (1, 3, SIDE, SIDE), white being 1."""
    night = window("rocket", 256 - SIDE, 56)
    lamps = night * (1.15 + 5 * (night - 0.75).clamp(min=0) / 0.25)
    return {"sky": 1.5 * window("camera", 20, 60), "lamps": lamps,
            "cup": 1.4 * window("coffee", 56, 56)}


def kernels() -> dict[str, Tensor]:
    """A wrong focus and a shaken hand."""
    away = torch.arange(-4, 5.0).square()
    return {"disc": ((away[:, None] + away) <= 3.5**2).float(),
            "walk": RandomMotionBlur(side=15, seed=4).kernel()}


def sharpened(prior: Prior, y: Tensor, operator: Operator) -> Tensor:
    """As the blueprint does it, (1, 3, H, W) in [-1, 1]."""
    return restored(prior, y, operator, 1.2 * NOISE, quick=True).clamp(-1, 1)


def psnr_in(x: Tensor, truth: Tensor, where: Tensor) -> float:
    """dB over the pixels where (1, 1, H, W) is 1."""
    where = where.expand_as(x)
    return -10 * float(((x - truth).square() * where).sum().div(4 * where.sum()).log10())


def ways(prior: Prior, y: Tensor, kernel: Tensor) -> dict[str, Tensor]:
    """The picture restored in each way."""
    bright = (y >= CLIPPED).to(y)
    bounded = bounded_blur(kernel, bright)
    done = {"blurred": y,
            "left out": sharpened(prior, y, observed_blur(kernel, bright.amax(1, keepdim=True))),
            "at least white": sharpened(prior, y, bounded)}
    beyond_white.AHEAD = 0.0
    done["not ahead"] = sharpened(prior, y, bounded)
    beyond_white.AHEAD = AHEAD
    beyond_white.WHITE = float("inf")
    done["shown"] = sharpened(prior, y, bounded)
    beyond_white.WHITE = 1.0
    return done


@torch.no_grad()
def main() -> None:
    """A line per scene, kernel and way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--picture", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    prior, rows, strips = load_pixel_prior(BUILT_IN), [], []
    for scene, light in scenes().items():
        for blur, kernel in kernels().items():
            x, kernel = 2 * light - 1, kernel / kernel.sum()
            truth, y = x.clamp(-1, 1), KernelBlur(weights=kernel)(x)
            y = (y + NOISE * per_sample_noise([7])(y)).clamp(-1, 1)
            y = ((y + 1) * 127.5).round() / 127.5 - 1
            clipped = (y >= CLIPPED).amax(1, keepdim=True).to(y)
            side = kernel.shape[-1]
            near = F.max_pool2d(clipped, side, 1, side // 2) - clipped
            done = ways(prior, y, kernel)
            for way, z in done.items():
                dB = [psnr_in(z, truth, m) for m in (clipped, near, 1 - clipped - near)]
                rows.append([scene, blur, way, *(round(v, 2) for v in dB)])
                print("{:6} {:5} {:15} clipped {:.2f} near {:.2f} rest {:.2f}".format(*rows[-1]),
                      flush=True)
            strips.append(torch.cat([y, done["left out"], done["at least white"], truth], 3))
    columns = ["scene", "kernel", "way", "clipped dB", "near dB", "rest dB"]
    pack.write_results("clipped_lights", {"side": SIDE, "columns": columns, "rows": rows})
    if asked.picture:
        whole = ((torch.cat(strips, 2)[0].permute(1, 2, 0) + 1) * 127.5).round().byte()
        Image.fromarray(whole.numpy()).save(asked.picture)


if __name__ == "__main__":
    main()
