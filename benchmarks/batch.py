"""`undegrade batch`: the same files from every engine, throughput, overhead, memory.

The photographs are windows of 256x256 pixels of scikit-image's. Every run is the command itself, in
a process of its own, one thread per worker.

Run: python benchmarks/batch.py [--photos 64] [--steps 6] [--kills 3] [--tiny 10000]. The figures
need a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pack
from photos import EVALUATION, FILES, SIDE
from PIL import Image

WORKFLOWS = ("demo_super_resolution_x4", "demo_motion_deblur", "demo_random_inpainting")
ENGINES = {
    "local": (),
    "ray 1": ("--engine", "ray"),
    "ray 2": ("--engine", "ray", "--workers", "2"),
}
INVERT = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "x.png"}},
    "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
}
EDGE = 100  # pictures after which memory must be flat


def write_windows(folder: Path, count: int, side: int = SIDE) -> None:
    """Windows of the evaluation photographs, spread evenly over each."""
    import skimage.data

    home = Path(skimage.data.__file__).parent
    for i in range(count):
        name = EVALUATION[i % len(EVALUATION)]
        picture = Image.open(home / FILES.get(name, f"{name}.png")).convert("RGB")
        rng = random.Random(i)
        left, top = rng.randint(0, picture.width - side), rng.randint(0, picture.height - side)
        path = folder / name / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((left, top, left + side, top + side)).save(path)


def write_tiny(folder: Path, count: int) -> None:
    """Pictures of 16x16 random pixels, a thousand to a folder."""
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f"{i // 1000:02}" / f"{i:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)


def start(workflow: Path, source: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command, running."""
    words = [sys.executable, str(pack.ROOT / "undegrade"), "batch", str(workflow), "--quiet",
             "--input", str(source), "--output", str(out), *options]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})


def lines(out: Path) -> int:
    """How many pictures are done."""
    record = out / "manifest.jsonl"
    return record.read_bytes().count(b"\n") if record.exists() else 0


def watch(process: subprocess.Popen[bytes], out: Path, count: int) -> Iterator[int]:
    """How many pictures are done, each time there are more; raises when the command fails."""
    seen = 0
    while seen < count:
        done = lines(out)
        if done > seen:
            seen = done
            yield seen
        elif process.poll() is not None:
            break
        time.sleep(0.005)
    if process.wait():
        raise RuntimeError(f"{out.name} ended with status {process.returncode}")


def files(out: Path) -> dict[str, bytes]:
    """What a run wrote but the manifest and temporary files."""
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*.png")}


def rate(process: subprocess.Popen[bytes], out: Path, count: int) -> float:
    """Pictures per second, from the first result to the last."""
    times = [(time.perf_counter(), done) for done in watch(process, out, count)]
    return (times[-1][1] - times[0][1]) / (times[-1][0] - times[0][0])


def killed(workflow: Path, source: Path, out: Path, words: tuple[str, ...],
           truth: dict[str, bytes], kills: int) -> Path:
    """Run with SIGKILL at random moments, then to the end; raises where a file is not whole."""
    for _ in range(kills):
        process = start(workflow, source, out, *words)
        goal = lines(out) + random.randint(1, max(1, len(truth) // (kills + 1)))
        while process.poll() is None and lines(out) < min(goal, len(truth) - 1):
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        process.wait()
        if any(truth[k] != v for k, v in files(out).items()):
            raise RuntimeError(f"{out.name}: a file is not whole")
    if start(workflow, source, out, *words).wait():
        raise RuntimeError(f"{out.name} failed")
    return out


def same_files(place: Path, count: int, kills: int, steps: str) -> tuple[list[list], dict]:
    """Each workflow by each engine, whole and killed several times: equal files, and speed."""
    rows, speeds = [], {}
    source = place / "photos"
    write_windows(source, count)
    for name in WORKFLOWS:
        workflow = pack.workflow(name)
        truth: dict[str, bytes] = {}
        for engine, options in ENGINES.items():
            words = (*options, "--set", f"UndegradePosteriorSampler.steps={steps}")
            out = place / f"{name} {engine}"
            speed = rate(start(workflow, source, out, *words), out, count)
            speeds.setdefault(engine, []).append(speed)
            truth = truth or files(out)
            again = files(killed(workflow, source, Path(f"{out} killed"), words, truth, kills))
            equal = sum(truth[k] == v for k, v in files(out).items())
            still = sum(truth.get(k) == v for k, v in again.items())
            rows.append([name, engine, f"{equal}/{count}", f"{still}/{count}", f"{speed:.3f}"])
            print(rows[-1], flush=True)
    return rows, speeds


def overhead(place: Path, count: int = 9) -> dict[str, float]:
    """Seconds per picture with the workflow as shipped, and those beside the nodes that compute.

    Loading and saving count as beside. From the first result to the last, so without the start.
    """
    from undegrade.headless.batch import driver, in_memory, worker
    from undegrade.headless.cli import main

    spent, marks = [0.0], []

    class Timed(in_memory.Collector):
        def started(self, node: Any) -> None:
            super().started(node)
            self.counts = node.type not in ("LoadImage", "SaveImage")
            self.since = time.perf_counter()

        def finished(self, node: Any, ui: dict[str, list]) -> None:
            super().finished(node, ui)
            if self.counts:
                spent[0] += time.perf_counter() - self.since

    class Marked(driver.Driver):
        def _take(self, outcome: Any) -> None:
            super()._take(outcome)
            marks.append((time.perf_counter(), spent[0]))

    worker.Collector, driver.Driver = Timed, Marked  # type: ignore[misc]
    write_windows(place / "few", count)
    workflow = pack.workflow(WORKFLOWS[0])
    if main(["batch", str(workflow), "--quiet", "--input", str(place / "few"),
             "--output", str(place / "timed")]):
        raise RuntimeError("the run failed")
    whole, nodes = ((marks[-1][i] - marks[0][i]) / (count - 1) for i in (0, 1))
    return {"seconds": whole, "beside": whole - nodes, "share": 1 - nodes / whole}


def resident(place: Path, count: int, *options: str) -> dict[int, float]:
    """MiB resident in the command's process after so many tiny pictures."""
    (place / "invert.json").write_text(json.dumps(INVERT))
    if not (place / "tiny").exists():
        write_tiny(place / "tiny", count)
    out = place / f"tiny {' '.join(options) or 'local'}"
    process, found, page = start(place / "invert.json", place / "tiny", out, *options), {}, 2**20
    marks = sorted({EDGE, count // 10, count // 4, count // 2, count - 1})
    for done in watch(process, out, count):
        while marks and done >= marks[0]:
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            found[marks.pop(0)] = pages * os.sysconf("SC_PAGE_SIZE") / page
    return found


def together(place: Path, steps: str, count: int = 32) -> dict[str, float]:
    """Pictures per second of 64x64 windows, alone and eight to a network call."""
    source, found = place / "small", {}
    write_windows(source, count, 64)
    workflow = pack.workflow(WORKFLOWS[0])
    for rows in ("1", "8"):
        out = place / f"together {rows}"
        words = ("--together", rows, "--set", f"UndegradePosteriorSampler.steps={steps}")
        begin, process = time.perf_counter(), start(workflow, source, out, *words)
        if process.wait():
            raise RuntimeError("the run failed")
        seconds = [json.loads(line)["seconds"] for line in
                   (out / "manifest.jsonl").read_text().splitlines()]
        late = seconds[8:]
        found[rows] = len(late) / sum(late) * int(rows)
        found[f"{rows} wall s"] = time.perf_counter() - begin
    return found


def main() -> None:
    """Print the tables and write benchmarks/results/batch.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, default in (("photos", 64), ("steps", 6), ("kills", 3), ("tiny", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    steps = str(options.steps)
    parts: dict[str, Callable[[Path], Any]] = {
        "overhead": overhead,
        "together": lambda place: together(place, steps),
        "resident": lambda place: resident(place, options.tiny),
        "resident ray": lambda place: resident(place, options.tiny, "--engine", "ray"),
        "same": lambda place: same_files(place, options.photos, options.kills, steps),
    }
    figures: dict[str, Any] = {"options": vars(options)}
    with tempfile.TemporaryDirectory() as place:
        for name, measure in parts.items():
            figures[name] = measure(Path(place))
            print(name, figures[name] if name != "same" else "", flush=True)
    rows, speeds = figures.pop("same")
    header = ["workflow", "engine", "equal", "equal after kills", "pictures/s"]
    print(pack.table(header, rows))
    ratio = sum(speeds["ray 2"]) / sum(speeds["ray 1"])
    print(f"two workers against one: {ratio:.2f}")
    pack.write_results("batch", {**figures, "header": header, "rows": rows, "ratio": ratio})


if __name__ == "__main__":
    main()
