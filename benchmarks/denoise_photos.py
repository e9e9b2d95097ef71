"""Denoise, with what it measures itself, beside BM3D, on photographs with the noise they have.

White Gaussian noise of 15, 25 and 50 of 255; Poisson-Gaussian noise of variance a I + b in [0, 1],
clipped and in 8 bits; white noise saved as JPEG; Poisson-Gaussian noise on a Bayer mosaic,
bilinearly demosaiced. BM3D (package `bm3d`, for research only, left out where it is missing) is
told the level that scikit-image's `estimate_sigma` reads. Also what Denoise finds in
clean photographs.

Run: python benchmarks/denoise_photos.py [--cases JPEG] [--passes 4] [--threads 1]; with BM3D
about half an hour on one thread.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
from collections.abc import Callable

import numpy as np
import pack
import torch
import torch.nn.functional as F
from denoising import bm3d
from photos import EVALUATION, photos
from PIL import Image
from torch import Tensor

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.photograph.denoising import denoised, report
from undegrade.pipelines.photograph.noise_curve import noise_of


def normal(x: Tensor, seed: int) -> Tensor:
    """Standard normal values of x's shape."""
    return torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def in_8_bits(x: Tensor) -> Tensor:
    """Clipped and rounded as a file holds it."""
    return ((x + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


def white(x: Tensor, seed: int, level: float) -> Tensor:
    """Noise of `level` of 255."""
    return x + 2 * level / 255 * normal(x, seed)


def camera(x: Tensor, seed: int, a: float, b: float) -> Tensor:
    """Poisson-Gaussian noise."""
    u = (x + 1) / 2
    return in_8_bits(x + 2 * (a * u + b).sqrt() * normal(x, seed))


def saved(x: Tensor, seed: int, level: float, quality: int) -> Tensor:
    """White noise, then JPEG with chroma at half resolution."""
    pixels = ((in_8_bits(white(x, seed, level))[0] + 1) * 127.5).round().byte()
    file = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    back = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]
    return back.float() / 127.5 - 1


def demosaiced(x: Tensor, seed: int, a: float, b: float) -> Tensor:
    """Camera noise on a Bayer mosaic, each colour interpolated from its own pixels."""
    y = camera(x, seed, a, b)
    seen = torch.zeros_like(y)
    seen[:, 0, ::2, ::2] = seen[:, 2, 1::2, 1::2] = 1
    seen[:, 1, ::2, 1::2] = seen[:, 1, 1::2, ::2] = 1
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]).expand(3, 1, 3, 3)
    sums = [F.conv2d(F.pad(z, (1,) * 4, "reflect"), kernel, groups=3) for z in (y * seen, seen)]
    return in_8_bits(sums[0] / sums[1])


CASES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "white 15": lambda x, k: white(x, k, 15),
    "white 25": lambda x, k: white(x, k, 25),
    "white 50": lambda x, k: white(x, k, 50),
    "camera .01 .0002": lambda x, k: camera(x, k, 0.01, 0.0002),
    "camera .04 .001": lambda x, k: camera(x, k, 0.04, 0.001),
    "15, JPEG 90": lambda x, k: saved(x, k, 15, 90),
    "15, JPEG 70": lambda x, k: saved(x, k, 15, 70),
    "25, JPEG 80": lambda x, k: saved(x, k, 25, 80),
    "25, JPEG 50": lambda x, k: saved(x, k, 25, 50),
    "demosaiced": lambda x, k: demosaiced(x, k, 0.01, 0.0004),
    "clean": lambda x, k: x,
    "clean, JPEG 75": lambda x, k: saved(x, k, 0, 75),
}


def told_by_wavelets(y: Tensor) -> float:
    """The level, of 255, that scikit-image reads from one picture."""
    from skimage.restoration import estimate_sigma

    pixels = ((y[0] + 1) * 127.5).permute(1, 2, 0).numpy()
    return float(np.mean(estimate_sigma(pixels, channel_axis=-1)))


def main() -> None:
    """Print a table for every case and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", default="", help="only those whose name has this in it")
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    truth, prior = photos(EVALUATION), load_pixel_prior(BUILT_IN)
    figures = {}
    for name, spoil in CASES.items():
        if given.cases not in name:
            continue
        y = torch.cat([spoil(truth[k : k + 1], k) for k in range(len(truth))])
        models = [noise_of(picture) for picture in y]
        with torch.no_grad():
            done = [denoised(prior, *pair, given.passes) for pair in zip(y, models, strict=True)]
        found = {"as it came": y, "Denoise": torch.stack(done)}
        if importlib.util.find_spec("bm3d") and "clean" not in name:
            found["BM3D"] = torch.cat([bm3d(one[None], told_by_wavelets(one[None])) for one in y])
        scores = {k: psnr(x.clamp(-1, 1), truth).tolist() for k, x in found.items()}
        rows = [[k, *row, sum(row) / len(row)] for k, row in scores.items()]
        print(f"\n{name}\n" + pack.table(["PSNR", *EVALUATION, "mean"], rows), flush=True)
        said = dict(zip(EVALUATION, map(report, models), strict=True))
        rounded = {k: [round(n, 2) if n < float("inf") else None for n in row]
                   for k, row in scores.items()}  # None: bit for bit the truth
        figures[name] = rounded | {"found": said}
    if not given.cases:
        pack.write_results("denoise_photos", {"photographs": EVALUATION, "cases": figures})


if __name__ == "__main__":
    main()
