"""Weight files of pixel priors side by side: as Gaussian denoisers, and in the Posterior Sampler.

PSNR in dB, photograph by photograph: noise of 15, 25 and 50 of 255 on the eight photographs and on
the middles of the pictures of a second folder, beside BM3D (its figures are read, see `--bm3d`);
then the sampler's defaults on the four tasks of `tasks.py`. Figures are written as they come.

Run: python benchmarks/priors.py a.safetensors b.safetensors [--held-out FOLDER] [--bm3d JSON]
     [--out JSON]; `--write-bm3d` measures BM3D on the folder instead, and writes JSON for `--bm3d`.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pack
import torch
from photos import EVALUATION, SIDE, photos
from restoration import SUBDAPS, sample
from tasks import TITLES, measurements
from torch import Tensor

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior, networks_of
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise

OF_255 = (15, 25, 50)
HELD_OUT = 12  # pictures of the second folder

Figures = dict[str, dict[str, float]]  # level or task -> photograph -> dB


def held_out(folder: Path) -> tuple[list[str], Tensor]:
    """Names and middles of pictures, evenly spaced in the sorted folder, (B, 3, 256, 256)."""
    from PIL import Image

    names, found = [], []
    files = sorted(p for p in folder.rglob("*") if p.suffix in {".png", ".jpg", ".webp"})
    for file in files[:: max(1, len(files) // HELD_OUT)][:HELD_OUT]:
        image = Image.open(file).convert("RGB")
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        if min(left, top) >= 0:
            names.append(file.stem)
            found.append(np.array(image.crop((left, top, left + SIDE, top + SIDE))))
    return names, torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 127.5 - 1


def noisy(x0: Tensor, level: int) -> Tensor:
    """With noise of `level` of 255, one seed per photograph."""
    return x0 + 2 * level / 255 * per_sample_noise(range(len(x0)))(x0)


def denoised(prior: Prior, names: list[str], x0: Tensor, device: torch.device) -> Figures:
    """PSNR by level and photograph."""
    found = {}
    for level in OF_255:
        sigma = torch.full((len(x0),), 2 * level / 255, device=device)
        answer = prior.denoise(noisy(x0, level).to(device), sigma).cpu()
        found[str(level)] = dict(zip(names, psnr(answer, x0).tolist(), strict=True))
    return found


def restored(prior: Prior, device: torch.device) -> Figures:
    """PSNR by task and photograph, with the sampler's defaults."""
    truth, found = photos(EVALUATION), {}
    for task, m in measurements(truth).items():
        answer = sample(prior, replace(m, y=m.y.to(device)), SUBDAPS).float().cpu()
        found[task] = dict(zip(EVALUATION, psnr(answer, truth).tolist(), strict=True))
    return found


def bm3d_of(names: list[str], x0: Tensor) -> Figures:
    """BM3D's PSNR by level and photograph; minutes."""
    from denoising import bm3d

    found = {}
    for level in OF_255:
        scores = psnr(bm3d(noisy(x0, level), level), x0).tolist()
        found[str(level)] = dict(zip(names, scores, strict=True))
    return found


def known_bm3d() -> Figures:
    """BM3D's on the eight photographs, of results/denoising.json."""
    known = json.loads((pack.RESULTS / "denoising.json").read_text())
    levels = known["PSNR by noise"]
    return {level: dict(zip(known["photographs"], rows["BM3D"], strict=True))
            for level, rows in levels.items()}  # fmt: skip


def shown(title: str, by_prior: dict[str, Figures]) -> None:
    """A table per level or task, with the mean last."""
    for part in next(iter(by_prior.values())):
        names = list(next(iter(by_prior.values()))[part])
        rows = []
        for prior, figures in by_prior.items():
            values = [figures[part][name] for name in names]
            rows.append([prior, *values, sum(values) / len(values)])
        heading = TITLES.get(part, f"noise {part} of 255")
        short = [name[:9] for name in names]
        print(f"\n{title}, {heading}\n" + pack.table(["PSNR", *short, "mean"], rows), flush=True)


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("priors", type=Path, nargs="*", default=[BUILT_IN])
    parser.add_argument("--held-out", type=Path)
    parser.add_argument("--bm3d", type=Path)
    parser.add_argument("--write-bm3d", action="store_true")
    parser.add_argument("--out", type=Path, default=pack.RESULTS / "priors.json")
    parser.add_argument("--no-tasks", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sets = {"eight photographs": (list(EVALUATION), photos(EVALUATION))}
    if given.held_out:
        sets["second folder"] = held_out(given.held_out)
    if given.write_bm3d:
        given.out.write_text(json.dumps(bm3d_of(*sets["second folder"]), indent=1) + "\n")
        return
    results: dict = {"device": str(device), "denoising": {}, "sampler": {}, "seconds": {}}
    results["denoising"] = {title: {} for title in sets}
    results["denoising"]["eight photographs"]["BM3D"] = known_bm3d()
    if given.bm3d and given.held_out:
        known = json.loads(given.bm3d.read_text())
        if all(set(sets["second folder"][0]) == set(figures) for figures in known.values()):
            results["denoising"]["second folder"]["BM3D"] = known
        else:
            print(f"{given.bm3d} has figures of other pictures; BM3D is left out.")
    priors = {path.stem: placed(path, device) for path in given.priors}

    def write() -> None:
        text = json.dumps({"machine": pack.machine(), **results}, indent=1)
        given.out.write_text(text + "\n")

    with torch.no_grad():
        for title, (names, x0) in sets.items():
            for stem, prior in priors.items():
                results["denoising"][title][stem] = denoised(prior, names, x0, device)
            write()
            shown(title, results["denoising"][title])
        for stem, prior in {} if given.no_tasks else priors.items():
            start = time.monotonic()
            results["sampler"][stem] = restored(prior, device)
            results["seconds"][stem] = round(time.monotonic() - start, 2)
            write()
    if results["sampler"]:
        shown("Posterior Sampler", results["sampler"])


def placed(path: Path, device: torch.device) -> Prior:
    """The prior of a file, on the device."""
    prior = load_pixel_prior(path)
    for network in networks_of(prior):
        network.to(device)
    return prior


if __name__ == "__main__":
    main()
