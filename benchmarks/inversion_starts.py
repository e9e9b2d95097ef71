"""Inversion by starts and steps: the built-in pair on eight photographs, photograph by photograph.

Photographs of scikit-image, 256 x 256, spoilt and reduced 4 times by Real-World Degradation, one
seed each. 1 and 3 steps from every level the predictor was trained to start at; three steps end at
0.6 and 0.3 of the start. "no prior" is the control: the enlarged picture plus sigma times the
predicted mean, a plain regression. PSNR in dB, SSIM, and GMSD, where lower is closer.

Run: python benchmarks/inversion_starts.py [--strength StableSR].
"""

from __future__ import annotations

import argparse

import pack
import torch
from photos import EVALUATION, photos
from torch import Tensor
from tqdm import tqdm

from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.degradation.real_world import CHAINS, RealWorldDegradation, degrade
from undegrade.pipelines.invsr.sampler import bicubic, invert, predicted, schedule_from
from undegrade.pipelines.invsr.start_noise import StartNoise
from undegrade.pipelines.level import picture
from undegrade.pipelines.metrics import gmsd, psnr, ssim
from undegrade.pipelines.noise import per_sample_noise

SEED = 1000
LATER = (1.0, 0.6, 0.3)  # of the start, the noise levels of three steps
SCORES = {"PSNR": psnr, "SSIM": ssim, "GMSD": gmsd}


def methods(prior: Prior, predictor: StartNoise, lr: Tensor) -> dict[str, Tensor]:
    """Method -> pictures, (B, 3, 4 h, 4 w)."""
    z = bicubic(lr, predictor.scale)
    found = {"bicubic": z}
    for sigma in predictor.trained_sigmas:
        start = predicted(prior, predictor, lr, sigma)
        mean = picture(start.mean, start.size, prior.codec)
        found[f"start {sigma:.3g}, no prior"] = z + sigma * mean
        for steps in (1, 3):
            levels = [sigma * part for part in LATER[:steps]]
            schedule = schedule_from(torch.tensor([*levels, 0.0]))
            for kind, strength in (("", 1.0), (", mean only", 0.0)):
                noise = per_sample_noise([SEED + b for b in range(len(lr))])
                *_, last = invert(prior, start, schedule, noise, strength=strength)
                title = f"start {sigma:.3g}, {steps} step(s){kind}"
                found[title] = picture(last.x0_hat, last.size, prior.codec)
    return found


def main() -> None:
    """Print a table per score and write benchmarks/results/inversion_starts.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--strength", default="mild", choices=list(CHAINS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    truth = photos()
    prior, predictor = load_pixel_prior(BUILT_IN), load_noise_predictor(BUILT_IN_PREDICTOR)
    seeds = [SEED + b for b in range(len(truth))]
    lr = degrade(truth, RealWorldDegradation(strength=options.strength), seeds)
    with torch.no_grad():
        found = methods(prior, predictor, lr)
        figures = {
            name: {method: score(x, truth).tolist() for method, x in tqdm(found.items(), name)}
            for name, score in SCORES.items()
        }
    for name, scores in figures.items():
        digits = 2 if name == "PSNR" else 3
        rows = [
            [method, *(f"{v:.{digits}f}" for v in (sum(values) / len(values), *values))]
            for method, values in scores.items()
        ]
        header = [f"{name}, {options.strength} degradation", "mean", *EVALUATION]
        print(f"\n{pack.table(header, rows)}")
    written = {"strength": options.strength, "photographs": EVALUATION, "scores": figures}
    pack.write_results("inversion_starts", written)


if __name__ == "__main__":
    main()
