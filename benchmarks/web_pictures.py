"""Small web pictures and JPEG files, restored with what was estimated, beside the usual ways.

Run: python benchmarks/web_pictures.py [--side 192] [--factors 3] [--qualities 30 100]. The eight
evaluation photographs' centres: made smaller by Pillow (bicubic), saved as JPEG; enlarged by
bicubic, by Lanczos and by the workflow "Enlarge a web picture"; and of full size, saved as JPEG,
repaired by the workflow "Repair a JPEG"; both with the quality that Estimate JPEG Quality finds,
and the workflows' own settings. 100 stands for a PNG, which was never JPEG. Rows of other factors
and qualities stay as they are in the file.

Blockiness is what the error of a picture, at the file's own size (the mean over a pixel's area),
steps across the lines between 8x8 blocks, divided by what it steps in the blocks' middles: 1
without blocks. Of the error, since the lines through a small picture meet its edges by chance. A
window of 96 pixels is a file of 32 at three times, with three such lines and too few blocks to tell
the quality from (38.75 for 30): there it said nothing.
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
FACTORS, QUALITIES, PNG = (1.0, 2.0, 3.0), (30, 60, 90, 100), 100
COLUMNS = ["factor", "quality", "plain dB", "Lanczos dB", "restored dB", "plain blockiness",
           "restored blockiness", "found", "worse of 8"]  # than the better of plain and Lanczos
NOISE = 0.01
OPTIONS = SamplerOptions(steps=10, sigma_max=0.5)


def scaled(
    x: Tensor, size: tuple[int, int], kernel: Image.Resampling = Image.Resampling.BICUBIC
) -> Tensor:
    """(3, H, W) resized by Pillow."""
    pixels = ((x.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    image = Image.fromarray(pixels).resize((size[1], size[0]), kernel)
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


def figures(truth: Tensor, factor: float, quality: int) -> list[float]:
    """dB of the plain, the Lanczos and the restored picture, the blockiness of the first and the
    last, and the quality that was found."""
    full = (truth.shape[1], truth.shape[2])
    size = (round(full[0] / factor), round(full[1] / factor))
    small = scaled(truth, size) if factor > 1 else truth
    y = small if quality == PNG else saved(small, quality, 2)
    found = estimate_quality(y).quality
    z = restored(y, Compose((Downscale(factor), JPEG(found))) if factor > 1 else JPEG(found))
    plain = scaled(y, full) if factor > 1 else y
    lanczos = scaled(y, full, Image.Resampling.LANCZOS) if factor > 1 else y
    return [*(float(psnr(p[None], truth[None])) for p in (plain, lanczos, z)),
            *(blockiness(p - truth, size) for p in (plain, z)), found]


def main() -> None:
    """A line per factor and quality: means over the photographs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--side", type=int, default=192, help="of the window in pixels")
    parser.add_argument("--factors", type=float, nargs="*", default=FACTORS)
    parser.add_argument("--qualities", type=int, nargs="*", default=QUALITIES)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    corner = (SIDE - asked.side) // 2
    window = slice(corner, corner + asked.side)
    known = json.loads(OUT.read_text()) if OUT.exists() else {}
    same = known.get("columns") == COLUMNS and known.get("side") == asked.side
    rows = {(row[0], row[1]): row for row in known["rows"]} if same else {}
    for factor in asked.factors:
        for quality in asked.qualities:
            if factor == 1 and quality == PNG:
                continue  # nothing to repair
            start = time.process_time()
            each = [figures(photo(name)[0, :, window, window], factor, quality)
                    for name in EVALUATION]
            mean = torch.tensor(each).mean(0).tolist()
            worse = sum(z < max(plain, lanczos) for plain, lanczos, z, *_ in each)
            rows[factor, quality] = [factor, quality, *(round(v, 3) for v in mean), worse]
            print("factor {:g} quality {}: plain {:.2f} dB, Lanczos {:.2f}, restored {:.2f}; "
                  "blockiness {:.3f}, {:.3f}; found {:.0f}; worse {} of 8".format(
                      *rows[factor, quality]), f"{time.process_time() - start:.0f} s", flush=True)
            OUT.write_text(json.dumps({"side": asked.side, "columns": COLUMNS,
                                       "rows": [rows[key] for key in sorted(rows)]}) + "\n")


if __name__ == "__main__":
    main()
