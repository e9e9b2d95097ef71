"""Which of several noise predictors to ship: scores of each, and of mixtures of the last two.

    python benchmarks/predictor_choice.py a.safetensors b.safetensors [--pictures FOLDER]

Degradations and scores of `predictor_scores.py`, on the eight photographs and on the centres of a
folder's pictures, reduced to 256x256, by 1, 2, 3 and 5 published steps. Mixtures have weights
(1 - t) a + t b, which makes sense where b went on from a. Runs on a card where there is one. Writes
<out>/scores.json, after every degradation, and a sheet for two of them. Or the mixture that is to
ship, and nothing else (`predictor_scores.py --write` adds its scores):

    python benchmarks/predictor_choice.py a.safetensors b.safetensors --mix 0.1 out.safetensors
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pack
import torch
import torch.nn.functional as F
from photos import EVALUATION, SIDE, photos
from predictor_scores import DEGRADATIONS, SEED, sharpness
from torch import Tensor

from undegrade.models.noise_table import stable_diffusion_sigmas
from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines.invsr.sampler import Start, bicubic, invert, schedule_at
from undegrade.pipelines.invsr.steps import PUBLISHED
from undegrade.pipelines.metrics import gmsd, psnr, ssim
from undegrade.pipelines.noise import per_sample_noise

RUNS = {"1 step": PUBLISHED[1], "2 steps": PUBLISHED[2], "3 steps": PUBLISHED[3],
        "5 steps": PUBLISHED[5], "1 step, start 100": (100,)}  # fmt: skip
MIXED = (0.1, 0.25, 0.5, 0.75)
SHOWN, MOST = 6, 24  # pictures of the sheet, of a folder


def lattice(x: Tensor, truth: Tensor) -> Tensor:
    """What repeats with period 4, the screen door, as a deviation of 255; blocks of 32x32. (B,)"""
    grey = x.mean(1, keepdim=True) * 127.5
    detail = grey - F.avg_pool2d(F.pad(grey, (2, 1, 2, 1), mode="replicate"), 4, 1)
    blocks = F.unfold(detail, 32, stride=32).view(len(x), 8, 4, 8, 4, -1)
    return blocks.mean((1, 3)).square().mean((1, 2)).sqrt().mean(1)


SCORES = (psnr, ssim, gmsd, sharpness, lattice)


def folder_photos(folder: Path) -> tuple[list[str], Tensor]:
    """The centres of up to `MOST` of a folder's pictures, (B, 3, 256, 256) in [-1, 1]."""
    import numpy as np
    from PIL import Image, ImageOps

    files = sorted(p for p in folder.rglob("*") if p.suffix in (".png", ".jpg", ".jpeg", ".webp"))
    files = files[:: -(-len(files) // MOST)]
    found = [
        ImageOps.fit(Image.open(file).convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
        for file in files
    ]
    pixels = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in found]
    return [file.stem for file in files], torch.stack(pixels).float() / 127.5 - 1


def mixture(a: Any, b: Any, t: float) -> Any:
    """A predictor with weights (1 - t) a + t b."""
    mixed = copy.deepcopy(a)
    pairs = zip(mixed.network.parameters(), b.network.parameters(), strict=True)
    with torch.no_grad():
        for weight, other in pairs:
            weight.lerp_(other, t)
    return mixed


def write_mixture(first: Path, second: Path, t: float, out: Path) -> None:
    """The mixture of two runs on the listed photographs, in float16, with what both of them say."""
    from safetensors.torch import save_file

    (a, said), (b, later) = read_tensors(first), read_tensors(second)
    mixed = {name: a[name].float().lerp(b[name].float(), t).half() for name in a}
    metadata = {
        **{key: said[key] for key in ("kind", "license", "prior", "sigmas", "degradation")},
        **{key: f"{said[key]} + {later[key]}" for key in ("steps", "samples")},
        "versions": f"{later['versions']}, NVIDIA H100",
        "seed": f"{said['seed']}, then {later['seed']}",
        "command": f"{said['command']}; then {later['command']}; then python benchmarks/"
        f"predictor_choice.py a.safetensors b.safetensors --mix {t:g} predictor.safetensors",
        "mixture": f"{1 - t:g} of the weights of the first run, {t:g} of the second's",
        "data": "400 photographs of training/photographs.csv, packed by training/pack.py; the "
        "first run begins with predictor_v2, of 171 of them and of drawn canvases",
        "photographs": "public domain, CC0 or CC BY; authors in training/photographs.csv",
    }
    save_file(mixed, str(out), metadata)


def restored(prior: Any, predictor: Any, lr: Tensor, times: tuple[int, ...]) -> Tensor:
    """The Inversion Sampler's picture; all pictures of the batch in one call."""
    schedule = schedule_at(times, stable_diffusion_sigmas())
    level = torch.full((len(lr),), float(schedule.sigmas[0]), device=lr.device)
    mean, std = predictor.predict(lr, level)
    start = Start(lr, mean, std, predictor.scale, tuple(mean.shape[-2:]))
    noise = per_sample_noise([SEED + b for b in range(len(lr))])
    *_, last = invert(prior, start, schedule, noise)
    return last.x0_hat


def answers(prior: Any, predictors: dict[str, Any], lr: Tensor) -> dict[str, Tensor]:
    """Every method's picture."""
    found = {"bicubic": bicubic(lr, 4)}
    for name, predictor in predictors.items():
        for run, times in RUNS.items():
            found[f"{name}, {run}"] = restored(prior, predictor, lr, times)
    return found


def sheet(rows: list[Tensor], file: Path) -> None:
    """A row of pictures, (n, 3, 256, 256), for each; a JPEG of quality 86."""
    from PIL import Image

    grid = torch.cat([torch.cat(list(row.clamp(-1, 1)), 2) for row in rows], 1)
    pixels = ((grid + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    Image.fromarray(pixels).save(file, quality=86)


def main() -> None:
    """Print a table a degradation and write scores and the sheet."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("predictors", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path, default=Path("output"))
    parser.add_argument("--few", type=int, default=0, help="only so many pictures a set")
    parser.add_argument("--mix", nargs=2, metavar=("T", "FILE"), help="write a mixture")
    asked = parser.parse_args()
    if asked.mix:
        write_mixture(*asked.predictors, float(asked.mix[0]), Path(asked.mix[1]))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prior = load_pixel_prior(BUILT_IN)
    files = {"shipped": BUILT_IN_PREDICTOR, **{p.stem: p for p in asked.predictors}}
    predictors = {name: load_noise_predictor(file) for name, file in files.items()}
    if len(asked.predictors) > 1:
        a, b = (predictors[p.stem] for p in asked.predictors[-2:])
        predictors |= {f"mixed {t:g}": mixture(a, b, t) for t in MIXED}
    for network in (prior.network, *(p.network for p in predictors.values())):
        network.to(device)
    sets = {"photographs": (list(EVALUATION), photos())}
    if asked.pictures:
        sets["folder"] = folder_photos(asked.pictures)
    figures: dict[str, Any] = {"device": str(device), "sets": {}}
    for kind, (names, every) in sets.items():
        truth = every[: asked.few or None].to(device)
        figures["sets"][kind] = {"pictures": names, "degradations": {}}
        for title, degradation in DEGRADATIONS.items():
            with torch.inference_mode():
                lr = degradation(truth.cpu()).to(device)
                found = answers(prior, predictors, lr)
                scores = {method: {m.__name__: m(x, truth).tolist() for m in SCORES}
                          for method, x in found.items()}
            figures["sets"][kind]["degradations"][title] = {
                method: {k: [round(n, 4) for n in v] for k, v in s.items()}
                for method, s in scores.items()
            }
            (asked.out / "scores.json").write_text(json.dumps(figures) + "\n")
            rows = [[k, *(sum(v) / len(v) for v in s.values())] for k, s in scores.items()]
            header = [f"{kind}, {title}", *(m.__name__ for m in SCORES)]
            print("\n" + pack.table(header, rows), flush=True)
            if title in ("Real-World Degradation, mild", "Real-World Degradation, StableSR"):
                columns = ["bicubic", *(f"{name}, 1 step" for name in files),
                           f"{list(files)[-1]}, 3 steps"]
                rows_shown = [torch.stack([*(found[c][b] for c in columns), truth[b]])
                              for b in range(min(SHOWN, len(truth)))]
                sheet(rows_shown, asked.out / f"{kind}-{title.split()[-1]}.jpg")
    means(figures)


def means(figures: dict) -> None:
    """The mean of all degradations, a table a set."""
    for kind, found in figures["sets"].items():
        every = list(found["degradations"].values())
        rows = []
        for method in every[0]:
            cells = [[sum(s[method][m.__name__]) / len(s[method][m.__name__]) for s in every]
                     for m in SCORES]
            rows.append([method, *(sum(c) / len(c) for c in cells)])
        header = [f"{kind}, mean of all degradations", *(m.__name__ for m in SCORES)]
        print("\n" + pack.table(header, rows), flush=True)


if __name__ == "__main__":
    main()
