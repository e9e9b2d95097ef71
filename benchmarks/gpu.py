"""What a card gives: runs as ComfyUI makes them, played back (`pipelines/replay.py`) and launched.

    python benchmarks/gpu.py [--seconds 330] [--part large --part regions ..]

Parts come by importance, and every row is in results/gpu.json as soon as it is known, in place of
an older one of its name from the same kind of card; what no longer fits into the time is left out,
and said so. Without a CUDA device it runs on the CPU and leaves out waits, peaks and what is played
back: `--small` shows that in a minute.
"""

from __future__ import annotations

import argparse
import json
import time
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pack
import torch
from gpu_more import again_part, levels_part, peaks_part, together_part
from gpu_networks import ffhq_size
from gpu_parts import regions_part, starts_part, step_part, update_part
from gpu_runs import (
    Asked,
    Row,
    built_in,
    figures,
    measured,
    recordings,
    sampled,
    ways,
)
from photos import EVALUATION, photos
from tasks import TITLES, measurements, operators

from undegrade.models.prior import MultiResolutionPrior
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.subdaps.switch import FixedThreshold
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient

FORMATS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
OFFICIAL = {"renoise": 1.0, "complementary": False, "steps": 100}
TAU = {"super_resolution": 1e-5, "motion": 3e-4, "gaussian": 1e-4, "inpainting": 1e-5}
HEADER = ["work", "s", "waits a step", "peak MiB", "dB", "more"]


def formats(asked: Asked) -> list[str]:
    """Number formats worth measuring there."""
    return [*FORMATS] if asked.device.type == "cuda" else ["float32"]


def small_runs(asked: Asked) -> Iterator[Row]:
    """The built-in prior at the smallest size, task by task, in both ways."""
    size = asked.sizes[0]
    height, width = map(int, size.split("x"))
    prior = built_in("float32")
    for task, title in TITLES.items():
        m = measured(height, width, operators(1, height)[task])
        for way, allowed in ways(asked):
            with recordings(allowed):
                found = figures(asked, prior, m, asked.steps)
            yield f"built-in, {title}, {size}, {way}", *found, None


def official(asked: Asked) -> Iterator[Row]:
    """The paper's settings with a network of FFHQ's size, at three resolutions and at one."""
    side = 64 if asked.small else 256
    steps = 3 if asked.small else 100
    for dtype in formats(asked):
        one = ffhq_size(asked.channels, asked.device, FORMATS[dtype])
        for task in ("super_resolution", "motion", "gaussian"):
            if dtype != "float32" and task != "super_resolution":
                continue
            m = measured(side, side, operators(1, side)[task])
            for prior, at in ((MultiResolutionPrior(one), "three resolutions"), (one, "one")):
                for way, allowed in ways(asked):
                    whole = task == "super_resolution" and dtype == "float32"
                    if not whole and (at == "one" or not allowed) and asked.device.type == "cuda":
                        continue
                    with recordings(allowed):
                        found = figures(
                            asked, prior, m, steps, tries=1,
                            **{k: v for k, v in OFFICIAL.items() if k != "steps"},
                            update=ConjugateGradient(tolerance=0.0, preconditioned=False),
                            switch=FixedThreshold(TAU[task]),
                        )  # fmt: skip
                    name = f"official, {TITLES[task]}, {side}x{side}, {at}, {dtype}, {way}"
                    yield name, *found, f"{steps} steps"


def restored(asked: Asked) -> Iterator[Row]:
    """The benchmark's photographs, all at once, in three formats: dB beside float32's. The CPU's
    stand in results/restoration.json."""
    truth = photos(EVALUATION[: asked.photos])
    exact: dict[str, float] = {}
    with recordings(True):
        for precision in formats(asked):
            prior = built_in(precision)
            for task, m in measurements(truth).items():
                begun = time.perf_counter()
                image = sampled(prior, m, steps=asked.steps)
                seconds = time.perf_counter() - begun
                found = psnr(2 * image.movedim(-1, 1) - 1, truth).mean().item()
                exact.setdefault(task, found)
                name = f"{len(truth)} photographs, {TITLES[task]}, {precision}"
                yield name, seconds, None, None, found, f"{found - exact[task]:+.3f} dB"


def large_runs(asked: Asked) -> Iterator[Row]:
    """The built-in prior, size by size, the largest in float32 left to `largest_run`."""
    for precision in ("auto", "float32"):
        for size in asked.sizes[: None if precision == "auto" else -1]:
            yield sized(asked, precision, size)


def largest_run(asked: Asked) -> Iterator[Row]:
    """The one that takes longest."""
    yield sized(asked, "float32", asked.sizes[-1])


def sized(asked: Asked, precision: str, size: str) -> Row:
    """Super-resolution to this size."""
    height, width = map(int, size.split("x"))
    m = measured(height, width, operators(1, height)["super_resolution"])
    with recordings(True):
        found = figures(asked, built_in(precision), m, asked.steps, tries=1)
    return f"built-in, super-resolution, {size}, {precision}", *found, None


PARTS = {
    "small": small_runs,
    "again": again_part,
    "official": official,
    "together": together_part,
    "step": step_part,
    "updates": update_part,
    "levels": levels_part,
    "photographs": restored,
    "large": large_runs,
    "starts": starts_part,
    "regions": regions_part,
    "peaks": peaks_part,
    "largest": largest_run,
}


@dataclass
class Report:
    """The rows so far, written as they come but for the small ones, and when to stop."""

    device: str
    end: float
    written: bool
    rows: list[list[Any]] = field(default_factory=list)
    new: list[list[Any]] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """One more row, or a newer one."""
        self.new.append(["-" if figure is None else figure for figure in row])
        print(*self.new[-1], flush=True)
        self.rows = [known for known in self.rows if known[0] != row[0]] + self.new[-1:]
        self.write(False)

    def write(self, complete: bool) -> None:
        """benchmarks/results/gpu.json."""
        if self.written:
            known = {"device": self.device, "rows": self.rows, "complete": complete}
            pack.write_results("gpu", known)

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.end


def kept(device: str) -> list[list[Any]]:
    """The rows that are known of this kind of card."""
    path = pack.RESULTS / "gpu.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    return known["rows"] if known.get("device") == device else []


def measure(asked: Asked, report: Report, parts: Iterable[str]) -> None:
    """Part after part, until done or out of time."""
    for part in map(PARTS.__getitem__, parts):
        try:
            with left():
                for row in part(asked):
                    report.add(row)
                    if report.late:
                        return
        except Exception as error:  # the other parts are still worth their time
            traceback.print_exc()
            report.add((f"{part.__name__} failed: {error}"[:200], *[None] * 5))
        if asked.device.type == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    """Measure, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=330.0)
    parser.add_argument("--part", action="append", choices=[*PARTS], help="that one only; several")
    parser.add_argument("--small", action="store_true", help="everything as small as it can be")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = ["256x256", "512x512", "1024x1024", "1536x2048", "3072x4096"]  # height x width
    asked = Asked(device, False, 50, len(EVALUATION), sizes, 128)
    if given.small:
        asked = Asked(device, True, 6, 1, ["64x64", "64x96"], 32)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    report = Report(name, time.monotonic() + given.seconds, not given.small, kept(name))
    measure(asked, report, given.part or PARTS)
    report.write(not report.late and not given.part)
    print(f"{name}, torch {torch.__version__}")
    print(pack.table(HEADER, report.new))
    if report.late:
        print(f"Out of time after {given.seconds:g} s; the rest was left out.")


if __name__ == "__main__":
    main()
