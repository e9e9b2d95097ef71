"""Runs the shipped workflows on scikit-image photographs and scores them against baselines.

For super-resolution x4, motion deblurring and 70 % inpainting: the workflow runs as `undegrade run`
runs it; what its nodes made is caught on the way, so that the baselines get exactly the measurement
that the sampler got. Wiener and total variation have the weight that is best for the photograph.

Run: python benchmarks/demo.py --output output [--photo astronaut --photo chelsea].
Writes the restored pictures and a comparison, degraded | baseline | restored | original, per run.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pack
import torch
from baselines import TV_WEIGHTS, best_total_variation, best_wiener
from photos import EVALUATION, photo
from torch import Tensor
from tqdm import tqdm

from undegrade.headless.cli import Pack
from undegrade.headless.cli import main as undegrade
from undegrade.nodes.images import to_pixels
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr, ssim
from undegrade.pipelines.operators.blur import Blur

WORKFLOWS = {
    "demo_super_resolution_x4": "super-resolution x4",
    "demo_motion_deblur": "motion deblurring",
    "demo_random_inpainting": "inpainting 70 %",
}
DEFAULT_PHOTOS = ("astronaut", "chelsea", "coffee")
TV_ITERATIONS = 50, 250  # within 0.1 dB of the converged picture
GAP, CAPTION = 8, 34  # pixels


def recording_pack(caught: dict[str, Any]) -> Pack:
    """The pack's nodes, with the measurement and the restored picture written into `caught`."""
    plain = Pack.load()

    def watched(name: str, method: str, keep) -> type:
        inner = plain.classes[name]

        def call(self, **inputs: Any) -> tuple:
            outputs = getattr(inner, method)(self, **inputs)
            caught.update(keep(outputs))
            return outputs

        return type(inner.__name__, (inner,), {method: call})

    watchers = {
        "UndegradeDegradeImage": ("degrade", lambda out: {"measurement": out[1]}),
        "UndegradePosteriorSampler": ("sample", lambda out: {"restored": out[0]}),
    }
    classes = {name: watched(name, *how) for name, how in watchers.items()}
    return Pack({**plain.classes, **classes}, plain.titles, plain.host)


def run_workflow(workflow: Path, source: Path, output: Path) -> tuple[Measurement, Tensor, float]:
    """What the workflow measured and restored, and its seconds. Raises `RuntimeError` when it
    fails."""
    caught: dict[str, Any] = {}
    said, start = io.StringIO(), time.perf_counter()
    arguments = ["run", str(workflow), "--input", str(source), "--output", str(output), "--quiet"]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = undegrade(arguments, recording_pack(caught))
    if status or not {"measurement", "restored"} <= caught.keys():
        raise RuntimeError(f"{workflow.name} ended with status {status}: {said.getvalue()}")
    seconds = time.perf_counter() - start
    return caught["measurement"], to_pixels(caught["restored"])[0], seconds


def baselines(m: Measurement, truth: Tensor) -> dict[str, Tensor]:
    """Bicubic, the filled or the blurred picture; Wiener for blurs; total variation."""
    guess = m.operator.guess(m.y)
    if m.y.shape != guess.shape:
        found = {"bicubic": guess}
    elif isinstance(m.operator, Blur):
        found = {"degraded": guess, "Wiener": best_wiener(m, truth)[0]}
    else:
        found = {"degraded": m.y, "filled": guess}
    return {**found, "TV": best_total_variation(m, truth, *TV_ITERATIONS, TV_WEIGHTS[1:6])[0]}


def image_of(x: Tensor):
    """(1, 3, h, w) in [-1, 1] -> a PIL image."""
    from PIL import Image

    pixels = ((x[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels)


def side_by_side(columns: list[tuple[str, Tensor]], truth: Tensor):
    """The pictures in a row, each under its name and PSNR; smaller ones enlarged by repetition."""
    from PIL import Image, ImageDraw, ImageFont

    height, width = truth.shape[-2:]
    sheet = Image.new("RGB", (len(columns) * (width + GAP) - GAP, height + CAPTION), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for k, (name, x) in enumerate(columns):
        shown = image_of(x).resize((width, height), Image.Resampling.NEAREST)
        sheet.paste(shown, (k * (width + GAP), CAPTION))
        same = x.shape == truth.shape and x is not truth
        text = f"{name}, {psnr(x, truth).item():.1f} dB" if same else name
        draw.text((k * (width + GAP) + 4, 8), text, fill="black", font=font)
    return sheet


def compare(name: str, stem: str, folder: Path, output: Path) -> tuple[dict, float]:
    """Run one workflow on one photograph; method -> (PSNR, SSIM), and the workflow's seconds."""
    truth = photo(name)
    with tempfile.TemporaryDirectory() as place:
        source = Path(place) / f"{name}.png"
        image_of(truth).save(source)
        m, restored, seconds = run_workflow(folder / f"{stem}.json", source, output)
    found = baselines(m, truth)
    best = max(list(found)[1:] or found, key=lambda method: psnr(found[method], truth).item())
    columns = [("degraded", m.y), (best, found[best]), ("SubDAPS++", restored), ("original", truth)]
    side_by_side(columns, truth).save(output / f"{name}_{stem}.png")
    image_of(restored).save(output / f"{name}_{stem}_restored.png")
    found["SubDAPS++"] = restored
    scores = {k: (psnr(x, truth).item(), ssim(x, truth).item()) for k, x in found.items()}
    return scores, seconds


def report(stem: str, runs: dict[str, tuple[dict, float]]) -> dict:
    """Print one task's table; return its mean scores."""
    methods = list(next(iter(runs.values()))[0])
    rows, means = [], {}
    for method in methods:
        scores = [scores[method] for scores, _ in runs.values()]
        means[method] = [sum(column) / len(column) for column in zip(*scores, strict=True)]
        cells = [f"{p:.2f} / {s:.3f}" for p, s in [*scores, means[method]]]
        rows.append([method, *cells])
    seconds = sum(s for _, s in runs.values()) / len(runs)
    print(f"\n{WORKFLOWS[stem]}: PSNR in dB / SSIM; {seconds:.1f} s per workflow run")
    print(pack.table(["method", *runs, "mean"], rows))
    return means


def main() -> int:
    """Run every workflow on every photograph; 0 when SubDAPS++ leads each task's mean PSNR."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("output"))
    parser.add_argument("--photo", action="append", choices=EVALUATION, help="may be repeated")
    parser.add_argument("--workflows", type=Path, default=pack.ROOT / "workflows" / "demo")
    options = parser.parse_args()
    torch.set_num_threads(1)  # more gain little on small pictures, and stall on a busy machine
    options.output.mkdir(parents=True, exist_ok=True)
    names = options.photo or DEFAULT_PHOTOS
    jobs = [(stem, name) for stem in WORKFLOWS for name in names]
    runs: dict[str, dict] = {stem: {} for stem in WORKFLOWS}
    with torch.no_grad():
        for stem, name in tqdm(jobs, desc="restoring", unit="run"):
            runs[stem][name] = compare(name, stem, options.workflows, options.output)
    means = {stem: report(stem, found) for stem, found in runs.items()}
    scores = {"photos": names, "mean psnr, ssim": means}
    (options.output / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")
    print(f"\nPictures: {options.output}")
    behind = [s for s, m in means.items() if max(m, key=lambda k: m[k][0]) != "SubDAPS++"]
    if behind:
        print(f"SubDAPS++ is behind a baseline on {', '.join(behind)}.", file=sys.stderr)
    return len(behind)


if __name__ == "__main__":
    sys.exit(main())
