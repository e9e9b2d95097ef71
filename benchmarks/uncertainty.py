"""What answers that differ are worth: does the truth lie where they say, as often as they say?

Two windows of 64 x 64 pixels of eight photographs that nothing was tuned on, eight answers each,
four tasks, JPEG and a box to fill. For every pixel and colour the eight answers give a mean, a
spread s and the intervals of Posterior Statistics (`pipelines/posterior_statistics.py`), which a
ninth answer falls into as often as their percentage says. Measured is how often the truth does.

ratio      root mean square of truth - mean over the one that the answers lead to expect; 1 where
           the truth is as far from the answers as they are from each other
own        ratio with an own answer in the truth's place, held against the others; of answers in
           pairs against those of the other pairs
blocks     rank correlation of error and spread over blocks of 8 x 8 pixels
spread     root mean square of s, pixels from 0 to 1
one, mean  PSNR of one answer and of the mean of eight, dB
energy     energy score, mean |x_k - truth| - mean |x_j - x_k| / 2 per picture, root mean square
           over pixels from 0 to 1; lower is better, and the true posterior has the lowest

Run: python benchmarks/uncertainty.py [--tasks super_resolution] [--methods draws] [--tuning]
     [--windows 8] [--device cuda] [--name FILE].

--windows takes the first of the 16 windows only, for what takes long; the rows say so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import pack
import torch
import torch.nn.functional as F
from photos import EVALUATION, TUNING, photos
from restoration import leveled
from tasks import NOISE, TITLES, operators
from torch import Tensor
from tqdm import tqdm

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.posterior_statistics import half_width, paired, widening
from undegrade.pipelines.subdaps.apart import restore_apart
from undegrade.pipelines.subdaps.draws import draw, paired_noise
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin

SIDE, SAMPLES, BLOCK = 64, 8, 8
CORNERS = (64, 128)  # of the windows, down and to the right
QUALITY, BOX = 20, 24
NOISELESS, JPEG_NOISE = 1e-6, 0.01  # what a JPEG holds, and what Repair a JPEG says of it
MORE = {"jpeg": f"JPEG of quality {QUALITY}", "box": f"a box of {BOX} x {BOX} pixels to fill"}
PERCENTAGES = (50, 80, 95)
OFFICIAL = SamplerOptions(steps=100, renoise=1.0, complementary=False)
DAPS = replace(OFFICIAL, ode_steps=5)
DPS = SamplerOptions(steps=200, renoise=1.0, complementary=False)
Method = Callable[[Prior, Measurement, list[int]], Tensor]


def restored(options: SamplerOptions, update, levels: int = 3) -> Method:
    """A run of `restore`."""

    def run(prior: Prior, m: Measurement, seeds: list[int]) -> Tensor:
        rest = {k: getattr(options, k) for k in ("renoise", "belief", "ode_steps", "complementary")}
        return run_of(
            restore, leveled(prior, levels), m, options, update, per_sample_noise, seeds, **rest
        )

    return run


def drawn(prior: Prior, m: Measurement, seeds: list[int]) -> Tensor:
    """Draws from the posterior."""
    options = SamplerOptions()
    return run_of(
        draw, leveled(prior, 3), m, options, ConjugateGradient(), paired_noise, seeds
    )


def run_of(sampler, prior, m, options, update, noise_of, seeds: list[int], **rest) -> Tensor:
    """The result of a run; JPEG's samples one by one, as the node does it."""
    schedule = schedule_for(prior, options)
    if m.operator.smooth:
        steps = sampler(prior, m, schedule, update, noise_of(seeds), **rest)
    else:
        noises = [noise_of([seed]) for seed in seeds]
        steps = restore_apart(prior, m, schedule, update, noises, sampler, **rest)
    for step in steps:
        result = picture(step.x0_hat, step.size)
    return result


METHODS: dict[str, Method] = {
    "default": restored(SamplerOptions(), ConjugateGradient()),
    "paper's settings": restored(OFFICIAL, ConjugateGradient(10, 0.0, preconditioned=False)),
    "sample": restored(OFFICIAL, ConjugateGradient(sample=True)),
    "DAPS": restored(DAPS, Langevin(), 1),
    "DPS": restored(DPS, LikelihoodGradient(3.0), 1),
    "draws": drawn,
}
QUICK = ("default", "paper's settings", "sample", "draws")


def measured(truth: Tensor, tasks: list[str]) -> dict[str, Measurement]:
    """Every task's measurement; noise as in the other benchmarks, none but rounding for JPEG."""
    side = truth.shape[-1]
    seen = torch.ones(1, 1, side, side)
    low, high = (side - BOX) // 2, (side + BOX) // 2
    seen[..., low:high, low:high] = 0
    known = operators(len(truth), side) | {"jpeg": JPEG(quality=QUALITY), "box": Inpainting(seen)}
    seeds = [1000 + b for b in range(len(truth))]
    found = {}
    for task in tasks:
        level = NOISELESS if task == "jpeg" else NOISE
        m = simulate(truth, known[task], level, per_sample_noise(seeds))
        found[task] = replace(m, noise_level=JPEG_NOISE) if task == "jpeg" else m
    return found


def scores(answers: Tensor, truth: Tensor, pairs: bool) -> dict[str, float]:
    """Figures of answers (B, K, 3, H, W) to pictures (B, 3, H, W)."""
    k, mean, variance = answers.shape[1], answers.mean(1), answers.var(1)
    error = truth - mean
    found = {}
    for p in PERCENTAGES:
        reach = torch.stack([half_width(a, p) for a in answers])
        found[f"{p} %"] = float((error.abs() <= reach).float().mean())
    one = psnr(answers.flatten(0, 1), truth.repeat_interleave(k, 0)).mean()
    return found | {
        "ratio": ratio(truth, answers),
        "own": ratio(answers[:, 0], answers[:, 2 if pairs else 1 :]),
        "blocks": rank_correlation(blocks(error.square()), blocks(variance)),
        "spread": float(variance.mean().sqrt()) / 2,
        "one": float(one),
        "mean": float(psnr(mean, truth).mean()),
        "energy": energy(answers, truth),
    }


def ratio(truth: Tensor, answers: Tensor) -> float:
    """Root mean square of truth - mean over the one expected."""
    expected = torch.stack([a.var(0) * widening(len(a), paired(a)) ** 2 for a in answers]).mean()
    return float(((truth - answers.mean(1)).square().mean() / expected).sqrt())


def energy(answers: Tensor, truth: Tensor) -> float:
    """The energy score (Gneiting and Raftery, 2007) with root mean squares for norms."""

    def distance(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().flatten(2).mean(2).sqrt()

    k = answers.shape[1]
    apart_ = torch.stack([distance(answers, answers.roll(j, 1)).mean() for j in range(1, k)]).mean()
    return float(distance(answers, truth[:, None].expand_as(answers)).mean() - apart_ / 2) / 2


def blocks(v: Tensor) -> Tensor:
    """Means over colours and blocks, (N,)."""
    return F.avg_pool2d(v.mean(1, keepdim=True), BLOCK).flatten()


def rank_correlation(a: Tensor, b: Tensor) -> float:
    """Spearman's."""
    ranks = torch.stack([v.argsort().argsort().double() for v in (a, b)])
    return float(torch.corrcoef(ranks)[0, 1])


def report(results: dict) -> None:
    """Print one table per task."""
    for task, rows in results.items():
        names = [name for name in next(iter(rows.values())) if name != "windows"]
        table = [[named(method, row), *(row[n] for n in names)] for method, row in rows.items()]
        print(f"\n{(TITLES | MORE)[task]}")
        print(pack.table(["method", *names], table))


def named(method: str, row: dict) -> str:
    """The method, and of how many windows where not of all."""
    return f"{method} ({row['windows']} windows)" if "windows" in row else method


def written(results: dict) -> None:
    """The table of docs/measured.md, between its marks."""
    file = pack.ROOT / "docs" / "measured.md"
    before, rest = file.read_text().split("<!-- uncertainty -->\n")
    after = rest.split("<!-- end -->", 1)[1]
    head = ["task", "answers", "50 %", "80 %", "95 %", "ratio", "blocks", "one", "mean", "energy"]
    rows = [head, ["---"] * len(head)]
    for task, methods in results.items():
        for method, row in methods.items():
            inside = [f"{100 * row[f'{p} %']:.0f}" for p in PERCENTAGES]
            figures = [f"{row[name]:.2f}" for name in ("ratio", "blocks", "one", "mean")]
            title = (TITLES | MORE)[task]
            rows.append([title, named(method, row), *inside, *figures, f"{row['energy']:.4f}"])
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    file.write_text(f"{before}<!-- uncertainty -->\n{table}<!-- end -->{after}")


def main() -> None:
    """Measure, print, and write benchmarks/results/uncertainty.json; other rows of it stay."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", default=",".join([*TITLES, *MORE]))
    parser.add_argument("--methods", default=",".join(QUICK), help=f"of {', '.join(METHODS)}")
    parser.add_argument("--tuning", action="store_true", help="the tuning photographs instead")
    parser.add_argument("--windows", type=int, default=len(CORNERS) * len(EVALUATION))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--name", default="uncertainty", help="of the file with the figures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    whole = photos(TUNING if options.tuning else EVALUATION)
    truth = torch.cat([whole[..., c : c + SIDE, c : c + SIDE] for c in CORNERS])
    truth, every = truth[: options.windows], len(truth)
    prior = load_pixel_prior(BUILT_IN)
    torch.nn.Module.to(prior.network, options.device)  # type: ignore[attr-defined]
    name = "uncertainty_tuning" if options.tuning else options.name
    file = pack.RESULTS / f"{name}.json"
    results = json.loads(file.read_text())["tasks"] if file.exists() else {}
    tasks = measured(truth, options.tasks.split(","))
    with torch.no_grad():
        for task, m in tqdm(tasks.items(), desc="tasks"):
            many = replace(m, y=m.y.repeat_interleave(SAMPLES, 0).to(options.device))
            seeds = list(range(0, len(many.y)))
            for method in options.methods.split(","):
                clock = time.process_time()
                answers = METHODS[method](prior, many, seeds).cpu().unflatten(0, (-1, SAMPLES))
                seconds = (time.process_time() - clock) / len(seeds)
                row = scores(answers, truth, method == "draws") | {"seconds": seconds}
                if len(truth) < every:
                    row["windows"] = len(truth)
                rounded = {k: round(v, 4) for k, v in row.items()}
                results.setdefault(task, {})[method] = rounded
                print(task, method, rounded, flush=True)
                pack.write_results(name, {"side": SIDE, "samples": SAMPLES, "tasks": results})
    report({task: results[task] for task in tasks})
    if name == "uncertainty":
        written(results)


if __name__ == "__main__":
    main()
