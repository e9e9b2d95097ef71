"""What Fill From Surroundings and Posterior Sampler make of a large hole, each with grain, too.

A hole of 48 x 48 pixels in windows of 128x128 of four photographs at 256x256: fur, wood, brick, and
a face; and one of 96 x 96 in windows of 288x288 of six in their own pixels: fur, brick, grass,
gravel, wood and a night sky. PSNR inside the hole, and how much of the truth's fine and middle
detail there is: standard deviations of the two finest bands inside, as shares of the truth's; means
over two seeds. Of the sampler's settings the large holes have the first; beside them stands
scikit-image's biharmonic equation. A pass of the prior over what was filled starts from `FROM`.

Run: python benchmarks/holes.py [--only NAME] [--sheet FILE.png]
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pack
import torch
from photos import FILES, photo
from PIL import Image
from torch import Tensor

from undegrade.models.prior import MultiResolutionPrior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.photograph.bands import bands
from undegrade.pipelines.photograph.exemplars import FillOptions, completed
from undegrade.pipelines.photograph.grain import with_grain
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

SIDE, HOLE = 128, 48
FROM = 0.15
SAID = "PSNR, fine, middle; the same with grain"
FILL, BIHARMONIC = "Fill From Surroundings", "biharmonic"
PASS = f"{FILL}, then a pass from {FROM}"
LARGE_SIDE, LARGE_HOLE = 288, 96
LARGE = {  # left, top of a window in the photograph's own pixels
    "chelsea": (85, 0), "brick": (64, 64), "grass": (64, 64), "gravel": (96, 96),
    "coffee": (280, 80), "rocket": (60, 0),
}
WINDOWS = {"chelsea": (40, 20), "coffee": (120, 0), "brick": (64, 64), "astronaut": (10, 70)}
SEEDS = (0, 1)
SETTINGS = {  # name -> levels, and what differs from Posterior Sampler's defaults
    "50 steps from 80": (3, {}),
    "100 steps": (3, {"steps": 100}),
    "renoise 1": (3, {"renoise": 1.0}),
    "renoise .5": (3, {"renoise": 0.5}),
    "one level": (1, {}),
    "from 2": (3, {"sigma_max": 2.0}),
    "from 1, 20 steps": (1, {"sigma_max": 1.0, "steps": 20}),
    "plug and play": (1, {"renoise": 0.0, "steps": 8, "sigma_max": 2.0, "sigma_min": 0.03}),
}


def filled(x: Tensor, seen: Tensor, name: str, seed: int) -> Tensor:
    """The answer of one method."""
    if name == BIHARMONIC:
        return biharmonic(x * seen, seen)
    if name in (FILL, PASS):
        hole = seen[0, 0] == 0
        *_, (_, answer) = completed(x * seen, hole, torch.ones_like(hole), FillOptions(), seed)
        return answer if name == FILL else passed(answer, seen, seed)
    levels, given = SETTINGS[name]
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


def passed(answer: Tensor, seen: Tensor, seed: int) -> Tensor:
    """What eight steps of the prior make of a filled hole, from little noise."""
    prior, noise, x = load_pixel_prior(BUILT_IN), per_sample_noise([seed]), answer
    for sigma in torch.logspace(math.log10(FROM), math.log10(0.02), 8):
        x = prior.denoise(x + sigma * noise(x), sigma.expand(1))
        x = torch.where(seen > 0, answer, x)
    return x


def biharmonic(x: Tensor, seen: Tensor) -> Tensor:
    """scikit-image's."""
    from skimage.restoration import inpaint_biharmonic

    values, mask = x[0].movedim(0, -1).numpy(), seen[0, 0].numpy() == 0
    done = inpaint_biharmonic(values, mask, channel_axis=-1)
    return torch.from_numpy(done).movedim(-1, 0)[None].float()


def scores(answer: Tensor, x: Tensor, hole: tuple) -> list[float]:
    """PSNR, and shares of fine and middle detail, inside."""
    error = (answer - x)[hole].square().mean()
    shares = [(a[hole].std() / b[hole].std()).item()
              for a, b in list(zip(bands(answer), bands(x), strict=True))[:2]]
    return [round(float(10 * (4 / error).log10()), 2), *(round(share, 2) for share in shares)]


def windows() -> dict[str, tuple[list[str], int, dict[str, Tensor]]]:
    """Kind of hole -> the methods, the hole's side, and the pictures."""
    small = {n: photo(n)[..., t : t + SIDE, u : u + SIDE] for n, (t, u) in WINDOWS.items()}
    large = {n: own_pixels(n, *corner) for n, corner in LARGE.items()}
    ours = [FILL, PASS, BIHARMONIC]
    return {f"{HOLE}x{HOLE}": ([*SETTINGS, *ours], HOLE, small),
            f"{LARGE_HOLE}x{LARGE_HOLE}": ([next(iter(SETTINGS)), *ours], LARGE_HOLE, large)}


def own_pixels(name: str, left: int, top: int) -> Tensor:
    """A window of one of scikit-image's photographs, (1, 3, H, W)."""
    import skimage.data

    file = Path(skimage.data.__file__).parent / FILES.get(name, f"{name}.png")
    side = LARGE_SIDE
    window = Image.open(file).convert("RGB").crop((left, top, left + side, top + side))
    return torch.from_numpy(np.array(window)).permute(2, 0, 1)[None].float() / 127.5 - 1


def judged(x: Tensor, side: int, name: str) -> tuple[list[float], list[Tensor]]:
    """The scores of one method on one picture, and what it made of it last."""
    v, u = ((n - side) // 2 for n in x.shape[-2:])
    hole = (..., slice(v, v + side), slice(u, u + side))
    seen, each = torch.ones_like(x[:, :1]), []
    seen[hole] = 0
    for seed in SEEDS:
        plain = torch.where(seen > 0, x, filled(x, seen, name, seed))
        grainy = with_grain(plain, x * seen, 1 - seen, per_sample_noise([7 + seed]))
        each.append([*scores(plain, x, hole), *scores(grainy, x, hole)])
        if name == BIHARMONIC:
            break
    return [round(sum(v) / len(v), 2) for v in zip(*each, strict=True)], [plain, grainy]


def earlier() -> dict[str, dict]:
    """What the last runs wrote."""
    file = pack.RESULTS / "holes.json"
    return json.loads(file.read_text())[SAID] if file.exists() else {}


def main() -> None:
    """Print a table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="")
    parser.add_argument("--sheet", default="")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    figures = earlier()
    for kind, (names, side, pictures) in windows().items():
        shown = [torch.cat(list(pictures.values()), 3)[0]]
        for name in [name for name in names if chosen.only in name]:
            rows = {which: judged(x, side, name) for which, x in pictures.items()}
            figures.setdefault(kind, {})[name] = {which: row for which, (row, _) in rows.items()}
            print(kind, name, figures[kind][name], flush=True)
            for k in range(2):
                shown.append(torch.cat([made[k] for _, made in rows.values()], 3)[0])
        if chosen.sheet:
            sheet = ((torch.cat(shown, 1).clamp(-1, 1) + 1) * 127.5).byte().permute(1, 2, 0)
            Image.fromarray(sheet.numpy()).save(chosen.sheet.replace(".png", f"_{kind}.png"))
        pack.write_results("holes", {SAID: figures})


if __name__ == "__main__":
    main()
