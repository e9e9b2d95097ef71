"""Three resolutions against one: time and PSNR of the same sampler with the same prior.

Both runs have the same steps, noise levels, updates and seeds; only the resolutions differ. Times
are process times of one thread, one picture at a time, the two runs taken in turn and the best of
each kept.

Run: python benchmarks/resolution.py [--dtype bfloat16] [--photos 8] [--repeats 2].
"""

from __future__ import annotations

import argparse
import time

import pack
import torch
from photos import EVALUATION, photos
from restoration import SUBDAPS, Preset, sample
from tasks import TITLES, measurements
from tqdm import tqdm

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.metrics import psnr

LEVELS = {"three": SUBDAPS, "one": Preset(levels=1)}


def compare(
    prior: Prior, names: tuple[str, ...], repeats: int
) -> dict[str, dict[str, list[float]]]:
    """Per task: seconds and PSNR of every picture at three levels and at one."""
    found: dict[str, dict[str, list[float]]] = {}
    for preset in LEVELS.values():  # the first run of a shape pays for what is kept
        sample(prior, measurements(photos(names[:1]))["motion"], preset)
    for name in tqdm(names, desc="photographs"):
        truth = photos((name,))
        for task, m in measurements(truth, 1000 + EVALUATION.index(name)).items():
            best = dict.fromkeys(LEVELS, float("inf"))
            score = {}
            for _ in range(repeats):
                for levels, preset in LEVELS.items():
                    start = time.process_time()
                    restored = sample(prior, m, preset)
                    best[levels] = min(best[levels], time.process_time() - start)
                    score[levels] = psnr(restored, truth).item()
            mine = found.setdefault(task, {})
            for levels in LEVELS:
                mine.setdefault(f"{levels} s", []).append(round(best[levels], 3))
                mine.setdefault(f"{levels} dB", []).append(round(score[levels], 3))
    return found


def mean(values: list[float]) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def summary(found: dict[str, dict[str, list[float]]]) -> list[list]:
    """One row per task, and one over all."""
    rows = []
    groups = {TITLES[task]: v for task, v in found.items()}
    keys = [f"{levels} {unit}" for levels in LEVELS for unit in ("s", "dB")]
    groups["all"] = {k: [x for v in found.values() for x in v[k]] for k in keys}
    for title, v in groups.items():
        seconds = [sum(v[f"{levels} s"]) for levels in LEVELS]
        rows.append(
            [
                title,
                f"{mean(v['three dB']):.2f}",
                f"{mean(v['one dB']):.2f}",
                f"{mean(v['three dB']) - mean(v['one dB']):+.2f}",
                f"{mean(v['three s']):.2f}",
                f"{mean(v['one s']):.2f}",
                f"{seconds[0] / seconds[1]:.2f}",
            ]
        )
    return rows


def main() -> None:
    """Print the table and write benchmarks/results/resolution.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--photos", type=int, default=8, help="how many of the eight")
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    prior = load_pixel_prior(BUILT_IN, getattr(torch, options.dtype))
    with torch.no_grad():
        found = compare(prior, EVALUATION[: options.photos], options.repeats)
    rows = summary(found)
    header = ["task", "three dB", "one dB", "gain", "three s", "one s", "time ratio"]
    print(pack.table(header, rows))
    pack.write_results(
        "resolution", {"dtype": options.dtype, "header": header, "rows": rows, "tasks": found}
    )


if __name__ == "__main__":
    main()
