"""Small web pictures and JPEG files, restored with what was estimated, beside the usual ways.

Run: python benchmarks/web_pictures.py [--side 128]. The eight evaluation photographs' centres: made
smaller by Pillow (bicubic), saved as JPEG; enlarged by bicubic and by the workflow "Enlarge a web
picture"; and of full size, saved as JPEG, repaired by the workflow "Repair a JPEG"; both with the
quality that Estimate JPEG Quality finds, and the workflows' own settings.

Blockiness is what the error of a picture, at the file's own size (the mean over a pixel's area),
steps across the lines between 8x8 blocks, divided by what it steps in the blocks' middles: 1
without blocks. Of the error, since five lines through a small picture meet its edges by chance.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pack  # noqa: F401  (makes `undegrade` importable)
import torch
import torch.nn.functional as F
from jpeg_quality import saved
from photos import EVALUATION, SIDE, photo
from PIL import Image
from torch import Tensor

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.photograph.jpeg_quality import estimate_quality
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

OUT = Path(__file__).parent / "results" / "web_pictures.json"
FACTORS, QUALITIES = (1.0, 1.5, 2.0, 3.0, 4.0), (30, 50, 70, 90)
NOISE = 0.01
OPTIONS = SamplerOptions(steps=10, sigma_max=0.5)


def scaled(x: Tensor, size: tuple[int, int]) -> Tensor:
    """(3, H, W) resized by Pillow's bicubic filter."""
    pixels = ((x.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    image = Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 127.5 - 1


def blockiness(error: Tensor, size: tuple[int, int]) -> float:
    """Of an error, (3, H, W), at the size that the file had."""
    luma = F.interpolate(error.mean(0)[None, None], size=size, mode="area")[0, 0]
    lines, middles = [], []
    for plane in (luma, luma.T):
        step = plane.diff(dim=1).abs().mean(0)
        lines.append(step[7::8].mean())
        middles.append(step[3::8].mean())
    return float(sum(lines) / sum(middles))


def restored(y: Tensor, operator: Operator) -> Tensor:
    """(3, h, w) -> (3, H, W) as the workflows do it."""
    prior, m = load_pixel_prior(BUILT_IN), Measurement(y[None], operator, NOISE)
    with torch.no_grad():
        *_, last = restore(prior, m, schedule_for(prior, OPTIONS), ConjugateGradient(),
                           per_sample_noise([0]), renoise=OPTIONS.renoise)
    return picture(last.x0_hat, last.size)[0]


def main() -> None:
    """A line per factor and quality: means over the photographs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=96, help="of the window in pixels")
    parser.add_argument("--factors", type=float, nargs="*", default=FACTORS)
    parser.add_argument("--qualities", type=int, nargs="*", default=QUALITIES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    rows, corner = [], (SIDE - asked.side) // 2
    window = slice(corner, corner + asked.side)
    for factor in asked.factors:
        for quality in asked.qualities:
            figures, start = [], time.process_time()
            for name in EVALUATION:
                truth = photo(name)[0, :, window, window]
                size = round(asked.side / factor), round(asked.side / factor)
                y = saved(scaled(truth, size) if factor > 1 else truth, quality, 2)
                found = estimate_quality(y).quality
                jpeg = JPEG(found)
                z = restored(y, Compose((Downscale(factor), jpeg)) if factor > 1 else jpeg)
                plain = scaled(y, (asked.side, asked.side)) if factor > 1 else y
                figures.append([*(float(psnr(p[None], truth[None])) for p in (plain, z)),
                                *(blockiness(p - truth, size) for p in (plain, z)), found])
            mean = torch.tensor(figures).mean(0).tolist()
            worse = sum(z < plain for plain, z, *_ in figures)
            rows.append([factor, quality, *(round(v, 3) for v in mean), worse])
            print("factor {:g} quality {}: plain {:.2f} dB, restored {:.2f}; blockiness {:.3f}, "
                  "{:.3f}; found {:.0f}; worse {} of 8".format(*rows[-1]),
                  f"{time.process_time() - start:.0f} s", flush=True)
    OUT.write_text(json.dumps({"side": asked.side, "columns": [
        "factor", "quality", "plain dB", "restored dB", "plain blockiness", "restored blockiness",
        "found", "worse of 8"], "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
