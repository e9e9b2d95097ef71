"""Restoration of photographs with a known degradation: samplers of the pack against baselines.

Eight photographs of scikit-image at 256 x 256, noise of standard deviation 0.05 in [-1, 1]. Wiener
and total variation have each picture's best weight, chosen by the true picture. No preset was tuned
on these photographs.

Run: python benchmarks/restoration.py [--dtype bfloat16] [--tasks motion,inpainting] [--quick].
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field

import pack
import torch
from baselines import TotalVariationPrior, best_total_variation, best_wiener
from photos import EVALUATION, TUNING, photos
from tasks import TITLES, measurements
from torch import Tensor
from tqdm import tqdm

from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import gmsd, psnr, ssim
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import Blur
from undegrade.pipelines.subdaps.corrector import Corrector
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.subdaps.switch import FixedThreshold, SwitchRule, never
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

OFFICIAL_TAU = {"super_resolution": 1e-5, "inpainting": 1e-5, "gaussian": 1e-4, "motion": 3e-4}


@dataclass(frozen=True)
class Preset:
    """A way to run the sampler."""

    options: SamplerOptions = field(default_factory=SamplerOptions)
    levels: int = 3
    switch: SwitchRule = never
    corrected: bool = False
    update: ConjugateGradient = field(default_factory=ConjugateGradient)


SUBDAPS = Preset()
FAST = SamplerOptions(steps=8, sigma_max=2.0, sigma_min=0.03, renoise=0.0)
PLUG_AND_PLAY = Preset(FAST, levels=1)


def presets(task: str) -> dict[str, Preset]:
    """Every preset that is measured; the official one has the task's own threshold."""
    official = SamplerOptions(
        steps=100, sigma_max=80.0, sigma_min=0.01, renoise=1.0, complementary=False
    )
    plain = ConjugateGradient(tolerance=0.0, preconditioned=False)
    return {
        "plug-and-play": PLUG_AND_PLAY,
        "SubDAPS++": SUBDAPS,
        "SubDAPS++, tuned": Preset(SamplerOptions(schedule="tuned")),
        "SubDAPS++, fast": Preset(SamplerOptions(schedule="fast")),
        "SubDAPS++, 100 steps": Preset(SamplerOptions(steps=100)),
        "SubDAPS++, one level": Preset(levels=1),
        "SubDAPS++, white noise": Preset(SamplerOptions(complementary=False)),
        "official settings": Preset(
            official, 3, FixedThreshold(OFFICIAL_TAU[task]), corrected=True, update=plain
        ),
    }


def leveled(prior: Prior, levels: int) -> Prior:
    """The prior at 1 or 3 resolutions."""
    return MultiResolutionPrior(prior) if levels == 3 else prior


def sample(prior: Prior, measurement: Measurement, preset: Preset, seed: int = 0) -> Tensor:
    """The restored pictures, (B, 3, H, W); picture b draws from seed + b."""
    prior = leveled(prior, preset.levels)
    schedule, corrector = schedule_for(prior, preset.options, measurement), Corrector()
    noise = per_sample_noise([seed + b for b in range(len(measurement.y))])
    steps = restore(
        prior,
        measurement,
        schedule,
        preset.update,
        noise,
        switch=preset.switch,
        renoise=preset.options.drawn,
        belief=preset.options.belief,
        complementary=preset.options.complementary,
        tuned=preset.options.tuned,
    )
    restored = measurement.y
    for step in steps:
        restored = picture(step.x0_hat, step.size)
        if preset.corrected:
            corrector.add(step)
    return corrector.result() if preset.corrected else restored


def restorations(
    prior: Prior, task: str, m: Measurement, truth: Tensor, quick: bool, only: list[str]
) -> dict:
    """Method -> (pictures, process seconds per picture); all of them where `only` is empty."""
    found: dict[str, tuple[Tensor, float]] = {}

    def measure(name: str, make) -> None:
        if only and name not in only:
            return
        start = time.process_time()
        result = make()
        found[name] = result, (time.process_time() - start) / len(truth)

    first = "bicubic" if task == "super_resolution" else "fill" if task == "inpainting" else "input"
    measure(first, lambda: m.operator.guess(m.y))
    if isinstance(m.operator, Blur):
        measure("Wiener (oracle)", lambda: best_wiener(m, truth)[0])
    iterations = (60, 150) if quick else (100, 300)
    measure("TV (oracle)", lambda: best_total_variation(m, truth, *iterations)[0])
    for name, preset in presets(task).items():
        measure(name, lambda preset=preset: sample(prior, m, preset))
    measure("SubDAPS++, TV denoiser", lambda: sample(TotalVariationPrior(), m, SUBDAPS))
    seeds = (0, 2000, 3000, 4000)  # 1000 is the measurements' own noise
    measure(
        "SubDAPS++, mean of 4",
        lambda: torch.stack([sample(prior, m, SUBDAPS, s) for s in seeds]).mean(0),
    )
    return found


def score(found: dict, truth: Tensor, names: tuple[str, ...]) -> dict:
    """PSNR in dB, SSIM and GMSD per photograph and on average; process seconds per picture."""
    scores = {}
    for method, (pictures, seconds) in found.items():
        p, s, g = psnr(pictures, truth), ssim(pictures, truth), gmsd(pictures, truth)
        scores[method] = {
            "psnr": round(p.mean().item(), 3),
            "ssim": round(s.mean().item(), 4),
            "gmsd": round(g.mean().item(), 4),
            "seconds": round(seconds, 3),
            "photos": {
                n: [round(a.item(), 3), round(b.item(), 4), round(c.item(), 4)]
                for n, a, b, c in zip(names, p, s, g, strict=True)
            },
        }
    return scores


def report(results: dict) -> None:
    """Print one table per task and write the figures."""
    for task, scores in results.items():
        names = list(next(iter(scores.values()))["photos"])
        rows = [
            [
                method,
                f"{v['psnr']:.2f}",
                f"{v['ssim']:.3f}",
                f"{v['gmsd']:.3f}",
                f"{v['seconds']:.2f}",
                *(f"{v['photos'][n][0]:.2f}" for n in names),
            ]
            for method, v in scores.items()
        ]
        print(f"\n{TITLES[task]}")
        print(pack.table(["method", "PSNR", "SSIM", "GMSD", "s", *names], rows))


def main() -> None:
    """Restore the photographs, print the tables, write benchmarks/results/restoration.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", default=",".join(TITLES), help="comma-separated task names")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--tuning", action="store_true", help="the tuning photographs instead")
    parser.add_argument("--quick", action="store_true", help="fewer TV iterations")
    parser.add_argument("--only", nargs="*", default=[], help="methods; the other rows stay")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = TUNING if options.tuning else EVALUATION
    truth = photos(names)
    prior = load_pixel_prior(BUILT_IN, getattr(torch, options.dtype))
    results = {}
    with torch.no_grad():
        chosen = {t: m for t, m in measurements(truth).items() if t in options.tasks.split(",")}
        for task, m in tqdm(chosen.items(), desc="tasks"):
            found = restorations(prior, task, m, truth, options.quick, options.only)
            results[task] = score(found, truth, names)
    report(results)
    name = "restoration_tuning" if options.tuning else "restoration"
    dtype = options.dtype
    if options.only:
        for rows in results.values():
            for row in rows.values():
                row["dtype"] = options.dtype  # the other rows' may be another
        file = json.loads((pack.RESULTS / f"{name}.json").read_text())
        known, dtype = file["tasks"], file["dtype"]
        results = {task: known[task] | results.get(task, {}) for task in known}
    pack.write_results(name, {"dtype": dtype, "tasks": results})


if __name__ == "__main__":
    main()
