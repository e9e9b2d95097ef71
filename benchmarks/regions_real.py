"""Region-Adaptive Sampler on pictures that are small, noisy and compressed: what it starts from.

The eight photographs, spoilt and reduced by 4 as in `predictor_scores.py`. "bicubic" is what the
workflow did at first: the enlarged picture, from noise of 0.4, predictions held to all it shows.
"predictor" starts from what the noise predictor makes in one step. Twelve steps for every tile: who
skips steps comes out a few hundredths of a dB below (`regions.py`).

Run: python benchmarks/regions_real.py [--predictor FILE] [--photos coffee ..] [--ways "as .."]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pack
import torch
from photos import EVALUATION, photos
from predictor_choice import restored
from predictor_scores import DEGRADATIONS, SEED, sharpness
from torch import Tensor

from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.adadiffsr.base_grid import BaseGrid, half_sigma
from undegrade.pipelines.adadiffsr.calibration import EVERY_STEP
from undegrade.pipelines.adadiffsr.information_gain import WeightFree, closed_form
from undegrade.pipelines.adadiffsr.injection import FeatureInjection
from undegrade.pipelines.adadiffsr.regions import RegionOptions, Task
from undegrade.pipelines.adadiffsr.sampler import RegionRun
from undegrade.pipelines.invsr.sampler import bicubic
from undegrade.pipelines.invsr.steps import PUBLISHED
from undegrade.pipelines.metrics import gmsd, psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.tiling import TileGrid

GRID = TileGrid(256, 256, 64, 32)
STEPS, BATCH = 12, 64
WAYS = {  # what it starts from, noise level, share of it that is added, held to, at what scale
    "bicubic, from 0.4, held": ("bicubic", 0.4, 0.8, 1.0, 4),
    "bicubic, from 0.4, held by 0.3": ("bicubic", 0.4, 0.8, 0.3, 4),
    "predictor, from 0.2": ("predictor", 0.2, 0.8, 0.0, 0),
    "predictor, from 0.1": ("predictor", 0.1, 0.8, 0.0, 0),
    "predictor, from 0.1, no noise": ("predictor", 0.1, 0.0, 0.0, 0),
    "predictor, from 0.1, colours held": ("predictor", 0.1, 0.8, 0.3, 0),
    "as the workflows": ("predictor", 0.1, 0.0, 0.3, 0),
}


def regions(
    prior: Prior, z: Tensor, start: float, noise: float, strength: float, scale: int
) -> Tensor:
    """The stitched picture of a run over z, (B, 3, 256, 256)."""
    sigmas = BaseGrid(steps=STEPS, start_sigma=start).sigmas(prior.spec)
    drawn = per_sample_noise([SEED + b for b in range(len(z))])(torch.zeros(z.shape))
    task = Task(GRID, GRID.cut(z), GRID.cut(drawn).to(z.device), sigmas, half_sigma(prior.spec))
    spans = closed_form(sigmas, 1)
    run = RegionRun(
        lambda x, sigma, _: prior.denoise(x, sigma), task, EVERY_STEP, WeightFree(spans), spans,
        RegionOptions(noise=noise), FeatureInjection(strength, scale), BATCH,
    )  # fmt: skip
    for _ in run:
        pass
    return GRID.stitch(run.predictions())


def main() -> None:
    """A table a degradation, and benchmarks/results/<name>.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--predictor", type=Path, default=BUILT_IN_PREDICTOR)
    parser.add_argument("--photos", nargs="+", default=EVALUATION, choices=EVALUATION)
    parser.add_argument("--degradations", nargs="+", default=list(DEGRADATIONS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--name", default="regions_real")
    asked = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior, predictor = load_pixel_prior(BUILT_IN), load_noise_predictor(asked.predictor)
    for network in (prior.network, predictor.network):
        network.to(device)
    truth, figures = photos(tuple(asked.photos)).to(device), {}
    for title in asked.degradations:
        with torch.inference_mode():
            lr = DEGRADATIONS[title](truth.cpu()).to(device)
            starts = {"bicubic": bicubic(lr, 4), "predictor": restored(prior, predictor, lr,
                                                                       PUBLISHED[1])}
            found = {**starts, **{way: regions(prior, starts[WAYS[way][0]], *WAYS[way][1:])
                                  for way in asked.ways}}
            figures[title] = {
                way: {m.__name__: m(x, truth).tolist() for m in (psnr, gmsd, sharpness)}
                for way, x in found.items()
            }
        rows = [[way, *(sum(v) / len(v) for v in s.values())] for way, s in figures[title].items()]
        print("\n" + pack.table([title, "PSNR", "GMSD", "sharpness"], rows), flush=True)
        pack.write_results(asked.name, {"photographs": asked.photos, "degradations": figures})


if __name__ == "__main__":
    main()
