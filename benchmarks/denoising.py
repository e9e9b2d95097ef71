"""Priors as Gaussian denoisers, beside BM3D, on eight photographs at 256x256.

Colour pictures, noise of 15, 25 and 50 of 255, one seed per photograph, the noise level given to
all; PSNR in dB, photograph by photograph; also for the mean over the eight orientations of a
picture, which costs eight calls. BM3D (Dabov et al., 2007) is that of the package `bm3d`,
whose licence is for research only: it is no requirement, and is left out where it is missing.

Run: python benchmarks/denoising.py [--priors runs/prior/prior.safetensors] [--threads 1].
"""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pack
import torch
from photos import EVALUATION, TUNING, photos
from torch import Tensor
from tqdm import tqdm

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise

OF_255 = (15, 25, 50)


def bm3d(x: Tensor, level: int) -> Tensor:
    """BM3D with its default profile. x: (B, 3, H, W) in [-1, 1]."""
    from bm3d import bm3d_rgb  # pyright: ignore[reportMissingImports]

    pictures = ((x + 1) / 2).permute(0, 2, 3, 1).double().numpy()
    done = [bm3d_rgb(picture, level / 255) for picture in tqdm(pictures, leave=False)]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).float() * 2 - 1


def of_eight(prior: Prior, x: Tensor, sigma: Tensor) -> Tensor:
    """The mean of the answers to a picture turned and mirrored, (B, 3, H, W), turned back."""
    answers = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = torch.rot90(x.flip(3) if mirrored else x, turns, (2, 3))
            answer = torch.rot90(prior.denoise(seen, sigma), -turns, (2, 3))
            answers.append(answer.flip(3) if mirrored else answer)
    return torch.stack(answers).mean(0)


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description="Priors as Gaussian denoisers.")
    parser.add_argument("--priors", type=Path, nargs="+", default=[BUILT_IN])
    parser.add_argument("--photos", choices=("evaluation", "tuning"), default="evaluation")
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    names = EVALUATION if given.photos == "evaluation" else TUNING
    truth = photos(names)
    priors = {path.stem: load_pixel_prior(path) for path in given.priors}
    noise = per_sample_noise(list(range(len(truth))))(truth)
    figures: dict[str, dict[str, list[float]]] = {}
    for level in OF_255:
        sigma = 2 * level / 255
        x, found = truth + sigma * noise, {}
        found["noisy"] = x
        if importlib.util.find_spec("bm3d"):
            found["BM3D"] = bm3d(x, level)
        with torch.no_grad():
            for name, prior in priors.items():
                levels = torch.full((len(x),), sigma)
                found[name] = prior.denoise(x, levels)
                found[f"{name}, 8 orientations"] = of_eight(prior, x, levels)
        scores = {name: psnr(x0_hat, truth).tolist() for name, x0_hat in found.items()}
        rows = [[name, *row, sum(row) / len(row)] for name, row in scores.items()]
        print(f"\nnoise {level} of 255\n" + pack.table(["PSNR", *names, "mean"], rows))
        figures[str(level)] = {k: [round(n, 3) for n in row] for k, row in scores.items()}
    if given.photos == "evaluation":
        pack.write_results("denoising", {"photographs": names, "PSNR by noise": figures})


if __name__ == "__main__":
    main()
