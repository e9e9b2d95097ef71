"""What Posterior Sampler makes of a large hole: start, steps, renoise and levels, then grain.

A hole of 48 x 48 pixels in windows of 128x128 of four photographs at 256x256: fur, wood, brick, and
a face. PSNR inside the hole, and how much of the truth's fine and middle detail there is: standard
deviations of the two finest bands inside, as shares of the truth's; means over two seeds.

Run: python benchmarks/holes.py [--only NAME] [--sheet FILE.png]
"""

from __future__ import annotations

import argparse

import pack
import torch
from photos import photo
from PIL import Image
from torch import Tensor

from undegrade.models.prior import MultiResolutionPrior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.photograph.bands import bands
from undegrade.pipelines.photograph.grain import with_grain
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIDE, HOLE = 128, 48
WINDOWS = {"chelsea": (40, 20), "coffee": (120, 0), "brick": (64, 64), "astronaut": (10, 70)}
SEEDS = (0, 1)
SETTINGS = {  # name -> levels, and what differs from Posterior Sampler's defaults
    "blueprint: 50 steps from 80": (3, {}),
    "100 steps": (3, {"steps": 100}),
    "renoise 1": (3, {"renoise": 1.0}),
    "renoise .5": (3, {"renoise": 0.5}),
    "one level": (1, {}),
    "from 2": (3, {"sigma_max": 2.0}),
    "from 1, 20 steps": (1, {"sigma_max": 1.0, "steps": 20}),
    "plug and play": (1, {"renoise": 0.0, "steps": 8, "sigma_max": 2.0, "sigma_min": 0.03}),
}


def filled(x: Tensor, seen: Tensor, levels: int, given: dict, seed: int) -> Tensor:
    """The sampler's answer."""
    prior = load_pixel_prior(BUILT_IN)
    if levels > 1:
        prior = MultiResolutionPrior(prior)
    options = SamplerOptions(**given)
    measurement = Measurement(x * seen, Inpainting(seen), 0.01)
    *_, step = restore(
        prior, measurement, schedule_for(prior, options), ConjugateGradient(),
        per_sample_noise([seed]), renoise=options.renoise, belief=options.belief,
        complementary=options.complementary)
    return picture(step.x0_hat, step.size)


def scores(answer: Tensor, x: Tensor, hole: tuple) -> list[float]:
    """PSNR, and shares of fine and middle detail, inside."""
    error = (answer - x)[hole].square().mean()
    shares = [(a[hole].std() / b[hole].std()).item()
              for a, b in list(zip(bands(answer), bands(x), strict=True))[:2]]
    return [round(float(10 * (4 / error).log10()), 2), *(round(share, 2) for share in shares)]


def main() -> None:
    """Print a table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--sheet", default="")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    first = (SIDE - HOLE) // 2
    inside = slice(first, first + HOLE)
    hole = (..., inside, inside)
    seen = torch.ones(1, 1, SIDE, SIDE)
    seen[hole] = 0
    figures, shown = {}, []
    for name, (levels, given) in SETTINGS.items():
        if chosen.only not in name:
            continue
        rows, row = {}, []
        for which, (top, left) in WINDOWS.items():
            x, each = photo(which)[..., top : top + SIDE, left : left + SIDE], []
            for seed in SEEDS:
                with torch.no_grad():
                    plain = torch.where(seen > 0, x, filled(x, seen, levels, given, seed))
                    grainy = with_grain(plain, x * seen, 1 - seen, per_sample_noise([7 + seed]))
                each.append([*scores(plain, x, hole), *scores(grainy, x, hole)])
            rows[which] = [round(sum(v) / len(v), 2) for v in zip(*each, strict=True)]
            row += [x, plain, grainy]
        figures[name] = rows
        print(name, rows, flush=True)
        shown.append(torch.cat(row, 3)[0])
    if not chosen.only:
        said = "PSNR, fine, middle; the same with grain"
        pack.write_results("holes", {said: figures})
    if chosen.sheet:
        sheet = ((torch.cat(shown, 1).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0)
        Image.fromarray(sheet.numpy()).save(chosen.sheet)


if __name__ == "__main__":
    main()
