"""Region-adaptive sampling against fixed schedules: the same tiles, noise and prior for all.

Photographs are reduced by 4 (antialiased bicubic), enlarged again, cut into tiles of 64 with an
overlap of 16, and restored with the built-in prior and Feature Injection. One table starts from all
noise (14.6), as the paper does, with the published baseline of 200 uniform steps; the other from
0.4, the nodes' default. "dB to fine" is the PSNR against 60 Karras steps of dpm++ 2m, where every
schedule ends: the error that a schedule makes. "seam" is the mean jump at the lines where tiles
blend over that 4 pixels beside; 1 is no seam.

"regressor" asks the trained estimator of what regions gain in place of the one without weights, at
equal settings; its calls are not in NFE, its time is in s.

The last table counts network calls of the heap against a lockstep of the same decisions, see
`region_packing.py`.

Run: python benchmarks/regions.py [--photos coffee rocket].
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace

import pack
import torch
import torch.nn.functional as F
from photos import EVALUATION, photos
from region_packing import call_seconds, packing
from torch import Tensor
from tqdm import tqdm

from undegrade.models.prior import Prior
from undegrade.models.region_regressor import BUILT_IN_REGRESSOR, load_region_regressor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.adadiffsr.base_grid import BaseGrid, half_sigma
from undegrade.pipelines.adadiffsr.calibration import EVERY_STEP, calibrate
from undegrade.pipelines.adadiffsr.information_gain import Spans, WeightFree, closed_form
from undegrade.pipelines.adadiffsr.injection import FeatureInjection
from undegrade.pipelines.adadiffsr.regions import RegionOptions, Task
from undegrade.pipelines.adadiffsr.sampler import RegionRun
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.adadiffsr.trained_gain import TrainedGain, trained_spans
from undegrade.pipelines.metrics import psnr, ssim
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.tiling import TileGrid

BATCH = 16
GRID = TileGrid(256, 256, 64, 16)


@dataclass
class Bench:
    """Photographs, their tiles and a prior."""

    prior: Prior
    truth: Tensor

    def __post_init__(self) -> None:
        small = F.interpolate(self.truth, scale_factor=0.25, mode="bicubic", antialias=True)
        self.enlarged = F.interpolate(small, scale_factor=4, mode="bicubic")
        self.z_lr = GRID.cut(self.enlarged)
        self.noise = GRID.cut(per_sample_noise(range(len(self.truth)))(self.truth))
        self.regressor = load_region_regressor(BUILT_IN_REGRESSOR)
        self.fine: Tensor | None = None
        self.known: dict[float, Spans] = {}

    def denoise(self, x: Tensor, sigma: Tensor, _) -> Tensor:
        """One network call."""
        return self.prior.denoise(x, sigma)

    def run(
        self, base: BaseGrid, policy: StepPolicy, solver: str, trained: bool = False
    ) -> tuple[RegionRun, float]:
        """A whole run, and its process time in seconds."""
        sigmas, half = base.sigmas(self.prior.spec), half_sigma(self.prior.spec)
        task = Task(GRID, self.z_lr, self.noise, sigmas, half)
        options, injection = RegionOptions(solver=solver), FeatureInjection()
        spans = closed_form(sigmas, 1)
        if policy.skips:
            spans = replace(self.spans(base.start_sigma), loss=spans.loss, sigmas=spans.sigmas)
        gain = WeightFree(spans)
        if trained:
            gain, spans = TrainedGain(self.regressor), trained_spans(self.regressor, sigmas)
        start = time.process_time()
        run = RegionRun(self.denoise, task, policy, gain, spans, options, injection, BATCH)
        for _ in run:
            pass
        return run, time.process_time() - start

    def spans(self, start: float) -> Spans:
        """A hard region's way, the same on every base grid, from 20 steps on a photograph."""
        if start not in self.known:
            sigmas = BaseGrid(start_sigma=start).sigmas(self.prior.spec)
            one = slice(0, GRID.count)
            task = Task(GRID, self.z_lr[one], self.noise[one], sigmas, half_sigma(self.prior.spec))
            self.known[start] = calibrate(
                self.denoise, task, RegionOptions(), injection=FeatureInjection(), batch=BATCH
            ).spans
        return self.known[start]

    def row(self, name: str, run: RegionRun, seconds: float) -> dict:
        """The columns of one run."""
        restored = GRID.stitch(run.predictions())
        counts = torch.tensor(run.evaluations, dtype=torch.float64)
        flat, detailed = self.by_detail(counts)
        fine = restored if self.fine is None else self.fine
        return {
            "schedule": name,
            "NFE": counts.mean().item(),
            "least": int(counts.min()),
            "most": int(counts.max()),
            "calls": len(run.calls),
            "s": seconds,
            "PSNR": psnr(restored, self.truth).mean().item(),
            "SSIM": ssim(restored, self.truth).mean().item(),
            "dB to fine": min(-10 * math.log10((restored - fine).square().mean() / 4 + 1e-12), 99),
            "seam": seam(restored),
            "flat": flat,
            "detailed": detailed,
            "left": sum(region.left == "saturated" for region in run.regions),
        }

    def by_detail(self, counts: Tensor) -> tuple[list[float], list[float]]:
        """Mean evaluations of each photograph's flattest and most detailed quarter of tiles."""
        roughness = (GRID.cut(self.truth) - GRID.cut(self.enlarged)).square().mean((1, 2, 3))
        found: tuple[list[float], list[float]] = ([], [])
        quarter = GRID.count // 4
        for mine, work in zip(roughness.split(GRID.count), counts.split(GRID.count), strict=True):
            order = mine.argsort()
            found[0].append(round(work[order[:quarter]].mean().item(), 2))
            found[1].append(round(work[order[-quarter:]].mean().item(), 2))
        return found


def seam(x: Tensor) -> float:
    """Mean jump at the lines where two tiles blend, over that four pixels beside them."""
    middles = [(b + a + GRID.tile) // 2 for a, b in zip(GRID.rows, GRID.rows[1:], strict=False)]
    found = []
    for dim in (2, 3):
        jump = x.diff(dim=dim).abs().mean((0, 1, 5 - dim))
        at = torch.stack([jump[m - 1] for m in middles]).mean()
        beside = torch.stack([jump[m - 1 + d] for m in middles for d in (-4, 4)]).mean()
        found.append((at / beside).item())
    return sum(found) / 2


def schedules(start: float, base: int, spacing: str) -> list[tuple[str, BaseGrid, StepPolicy, str]]:
    """The runs of a table that do not need another's mean evaluations."""
    grid = BaseGrid(steps=base, start_sigma=start, spacing=spacing)
    solver = "euler" if spacing == "uniform" else "dpm++ 2m"
    runs = [(f"{spacing} {base}, every step", grid, EVERY_STEP, solver)]
    late = {"adaptive_start": True, "start_sigma_easy": 0.1}
    for name, policy in (
        ("paper", StepPolicy(mode="paper")),
        ("paper, exits", StepPolicy(mode="paper", early_exit=True)),
        ("paper, tau 0.01", StepPolicy(mode="paper", threshold=0.01)),
        ("error, draft", StepPolicy(quality="draft")),
        ("error, draft, adaptive start", StepPolicy(quality="draft", **late)),
    ):
        runs.append((f"{spacing} {base}, {name}", grid, policy, solver))
    return runs


def measure(bench: Bench, start: float, bases: list[tuple[int, str]]) -> tuple[list[dict], list]:
    """The rows of one table, each adaptive run followed by fixed schedules of the same length."""
    fine_grid = BaseGrid(steps=60, start_sigma=start)
    bench.fine = None
    fine, _ = bench.run(fine_grid, EVERY_STEP, "dpm++ 2m")
    bench.fine = GRID.stitch(fine.predictions())
    rows, runs = [], []
    for base, spacing in bases:
        asked = schedules(start, base, spacing)
        for name, grid, policy, solver in tqdm(asked, desc=f"{spacing} {base}"):
            run, seconds = bench.run(grid, policy, solver)
            rows.append(bench.row(f"{name}, {solver}", run, seconds))
            tqdm.write(str(rows[-1]))
            runs.append((rows[-1]["schedule"], run))
            if policy.quality == "draft" and not policy.adaptive_start:  # of equal length
                equal = round(rows[-1]["NFE"])
                for fixed in sorted({spacing, "karras"}):
                    same = BaseGrid(steps=equal, start_sigma=start, spacing=fixed)
                    run, seconds = bench.run(same, EVERY_STEP, solver)
                    rows.append(bench.row(f"  fixed {fixed} {equal}, {solver}", run, seconds))
                    tqdm.write(str(rows[-1]))
    return rows, runs


def regressor_rows(bench: Bench, base: BaseGrid) -> list[dict]:
    """The trained estimator and the one without weights at equal settings, and a fixed schedule as
    long as the former's draft."""
    rows, solver = [], "dpm++ 2m"
    for name, policy, kinds in (
        ("paper", StepPolicy(mode="paper"), (True,)),
        ("error, balanced", StepPolicy(), (False, True)),
        ("error, draft", StepPolicy(quality="draft"), (True,)),
    ):
        for trained in kinds:
            run, seconds = bench.run(base, policy, solver, trained)
            said = f"karras {base.steps}, {name}{', regressor' * trained}, {solver}"
            rows.append(bench.row(said, run, seconds))
            tqdm.write(str(rows[-1]))
    equal = round(rows[-1]["NFE"])
    run, seconds = bench.run(replace(base, steps=equal), EVERY_STEP, solver)
    return [*rows, bench.row(f"  fixed karras {equal}, {solver}", run, seconds)]


def main() -> None:
    """Print the tables and write benchmarks/results/regions.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    names = ["coffee", "rocket"]
    parser.add_argument("--photos", nargs="+", default=names, choices=EVALUATION)
    chosen = parser.parse_args().photos
    torch.set_num_threads(1)
    bench, tables, runs = Bench(load_pixel_prior(BUILT_IN), photos(tuple(chosen))), {}, []
    with torch.no_grad():
        for title, start, bases in (
            ("from all noise", 14.6146, [(200, "uniform"), (20, "karras")]),
            ("from 0.4", 0.4, [(20, "karras")]),
        ):
            tables[title], made = measure(bench, start, bases)
            runs += [(f"{title}: {name}", run) for name, run in made]
        tables["from 0.4"] += regressor_rows(bench, BaseGrid())
        seconds = call_seconds(bench.prior, bench.z_lr)
        rows = packing(runs, GRID.count, len(chosen), BATCH, seconds)
    header = list(tables["from 0.4"][0])
    for title, found in tables.items():
        print(f"\n{title} ({', '.join(chosen)})")
        print(pack.table(header, [list(row.values()) for row in found]))
    bicubic = psnr(bench.enlarged, bench.truth).mean().item()
    print(f"\nbicubic {bicubic:.2f} dB, seam of the truth {seam(bench.truth):.3f}\n")
    print(pack.table(["packing at batch 16", "heap", "lockstep", "model", "measured"], rows))
    pack.write_results(
        "regions", {"photos": chosen, "bicubic": bicubic, "tables": tables, "packing": rows}
    )


if __name__ == "__main__":
    main()
