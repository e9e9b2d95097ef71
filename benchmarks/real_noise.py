"""Denoise beside BM3D on the noise of real cameras, with the mean of many shots as the truth.

PolyU (Xu, Li, Liang, Zhang and Zhang, "Real-world Noisy Image Denoising: A New Benchmark",
arXiv 1804.02603): pairs NAME_real.JPG, NAME_mean.JPG of 512x512 pixels, in the folder CroppedImages
of the repository csjunxu/PolyU-Real-World-Noisy-Images-Dataset; for research only, so that they
are measured on and not shown here. The means were saved as JPEG, too, and keep a little noise.

Run: python benchmarks/real_noise.py FOLDER [--every 5] [--side 256] [--sheet FILE.png]
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pack
import torch
from denoise_photos import told_by_wavelets
from denoising import bm3d
from PIL import Image
from torch import Tensor

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.metrics import psnr, ssim
from undegrade.pipelines.photograph.denoising import denoised, report
from undegrade.pipelines.photograph.noise_curve import noise_of


def middle(file: Path, side: int) -> Tensor:
    """The middle of a picture, (1, 3, side, side) in [-1, 1]."""
    image = Image.open(file).convert("RGB")
    left, top = ((n - side) // 2 for n in image.size)
    pixels = np.array(image.crop((left, top, left + side, top + side)))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def main() -> None:
    """Print a line for every picture and the means, and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--passes", type=int, default=4)
    parser.add_argument("--sheet", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    prior, rows, said, shown = load_pixel_prior(BUILT_IN), {}, {}, []
    for noisy in sorted(given.folder.glob("*_real.JPG"))[:: given.every]:
        name = noisy.stem.removesuffix("_real")
        y, truth = (middle(noisy.with_name(f"{name}_{kind}.JPG"), given.side)
                    for kind in ("real", "mean"))
        model = noise_of(y[0])
        with torch.no_grad():
            found = {"as it came": y, "Denoise": denoised(prior, y[0], model, given.passes)[None]}
        if importlib.util.find_spec("bm3d"):
            found["BM3D"] = bm3d(y, told_by_wavelets(y))
        rows[name] = {k: [round(float(score(x.clamp(-1, 1), truth)), 4) for score in (psnr, ssim)]
                      for k, x in found.items()}
        said[name] = report(model)
        shown.append(torch.cat([*found.values(), truth], 3)[0])
        print(name, rows[name], said[name], flush=True)
    means = {k: [round(float(np.mean([row[k][i] for row in rows.values()])), 4) for i in (0, 1)]
             for k in next(iter(rows.values()))}
    print("mean PSNR and SSIM", means)
    pack.write_results("real_noise", {"set": "PolyU", "side": given.side, "mean": means,
                                      "pictures": rows, "found": said})
    if given.sheet:
        sheet = ((torch.cat(shown, 1).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0)
        Image.fromarray(sheet.numpy()).save(given.sheet)


if __name__ == "__main__":
    main()
