"""How far the built-in prior's predictions lie from the truth, measured and kept in its file.

The tuning photographs at three resolutions, which no figure elsewhere is reported on. `training
prior` measures the same of what it trains; Measure Prior Error of any other prior.

Run: python benchmarks/prior_errors.py [--write], which stores the curve in the weight file.
"""

from __future__ import annotations

import argparse

import pack
import torch
from photos import TUNING, photos
from tqdm import tqdm

from undegrade.models.prior import ErrorCurve
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_safetensors
from undegrade.pipelines.prior_errors import errors

FACTORS = (1, 2, 4)


def rounded(curve: ErrorCurve) -> ErrorCurve:
    """The curve with three digits."""
    return ErrorCurve(
        {
            f: tuple(tuple(float(f"{e:.3g}") for e in row) for row in rows)
            for f, rows in curve.points.items()
        }
    )


def stored(curve: ErrorCurve) -> None:
    """Write the curve into the metadata of the built-in prior's file; its tensors stay."""
    from safetensors.torch import save_file

    tensors, metadata = read_safetensors(BUILT_IN)
    save_file(tensors, str(BUILT_IN), metadata | {"error_curve": curve.text()})


def main() -> None:
    """Measure, print, and write benchmarks/results/prior_errors.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--write", action="store_true", help="store it in the weight file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_pixel_prior(BUILT_IN)
    with torch.no_grad():
        *_, last = tqdm(errors(prior, photos(TUNING), FACTORS), desc="noise levels")
    curve = rounded(last)
    rows = [[f, s, e, e / s] for f, points in curve.points.items() for s, e, *_ in points]
    print(pack.table(["reduction", "sigma", "rms", "rms / sigma"], rows))
    pack.write_results("prior_errors", {"points": curve.points})
    if options.write:
        stored(curve)


if __name__ == "__main__":
    main()
