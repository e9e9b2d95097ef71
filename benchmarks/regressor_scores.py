"""Whether the regressor sees what regions gain next: rank correlations on eight photographs.

    python benchmarks/regressor_scores.py [--write]

Photographs are degraded as in the training (`training.records`), cut into tiles of 64, and sampled
at every node of the default base grid with the built-in prior and Feature Injection. The truth is
the 97th percentile over blocks of what quality rises by from a node to the next; the rank
correlation with it is told over all tiles and nodes, and as the mean of each node by itself, beside
that of the estimator without weights, which knows the step before only.
`--write` puts the table into the metadata of the shipped file.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pack
import torch
from photos import EVALUATION, photos
from torch import Tensor

from undegrade.models.region_regressor import BUILT_IN_REGRESSOR, load_region_regressor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines.adadiffsr.base_grid import BaseGrid
from undegrade.pipelines.adadiffsr.injection import FeatureInjection
from undegrade.pipelines.adadiffsr.regions import RegionOptions
from undegrade.pipelines.degradation.real_world import RealWorldDegradation, degrade
from undegrade.pipelines.tiling import TileGrid
from undegrade.training.records import Records, qualities, sampled
from undegrade.training.regions import correlations

GRID = TileGrid(256, 256, 64, 0)
SEED = 100
STRENGTHS = ("none", "mild", "StableSR")


def enlarged(truth: Tensor, strength: str) -> Tensor:
    """Reduced by 4, bicubic or by Real-World Degradation, and enlarged again."""
    resize = torch.nn.functional.interpolate
    if strength == "none":
        low = resize(truth, scale_factor=0.25, mode="bicubic", antialias=True)
    else:
        low = degrade(truth, RealWorldDegradation(strength), range(SEED, SEED + len(truth)))
    return resize(low, scale_factor=4, mode="bicubic", align_corners=False)


def recorded(truth: Tensor, strength: str) -> Records:
    """The tiles at every node."""
    prior = load_pixel_prior(BUILT_IN)
    z_lr, sigmas = enlarged(truth, strength), BaseGrid().sigmas(prior.spec)
    seeds, injection = range(SEED, SEED + len(z_lr)), FeatureInjection()
    states = sampled(prior, z_lr, GRID, sigmas, seeds, RegionOptions(), injection)
    return Records(states, GRID.cut(z_lr), qualities(prior, states[:, :, 1]), sigmas)


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--regressor", type=Path, default=BUILT_IN_REGRESSOR)
    parser.add_argument("--write", action="store_true", help="scores into the file's metadata")
    given = parser.parse_args()
    torch.set_num_threads(1)
    regressor, truth, figures = load_region_regressor(given.regressor), photos(), {}
    for strength in STRENGTHS:
        with torch.no_grad():
            scores = correlations(regressor, recorded(truth, strength))
        figures[strength] = {name: round(value, 4) for name, value in scores.items()}
    header = ["gain", *(f"{s}: {who}" for s in STRENGTHS for who in ("trained", "weight-free"))]
    rows = []
    for name in ("rank_full", "rank_full_within_nodes", "rank_none", "rank_none_within_nodes"):
        pairs = ((figures[s][name], figures[s][f"{name}_weight_free"]) for s in STRENGTHS)
        rows.append([name, *(value for pair in pairs for value in pair)])
    print(pack.table(header, rows))
    pack.write_results("regressor_scores", {"photographs": EVALUATION, "degradations": figures})
    if given.write:
        from safetensors.torch import save_file

        tensors, metadata = read_tensors(given.regressor)
        said = "rank correlation with the true gain on eight photographs of scikit-image, 256x256"
        metadata = {**metadata, "scores": json.dumps({said: figures})}
        save_file(tensors, str(given.regressor), metadata)


if __name__ == "__main__":
    main()
