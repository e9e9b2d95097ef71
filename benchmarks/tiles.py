"""Tiled against whole: seconds and peak memory by size of the picture, and whether seams show.

Memory: by how much the process's resident memory peaks above what it held before, in a process of
its own per row: in one call of the prior, and in a whole run (6 steps, 2 per resolution). Seams:
1024 x 768 pixels of scikit-image's retina photograph, restored at 15 steps and three resolutions
with the built-in prior and tiles of 256. "jump" is the mean step between the two pixels on both
sides of a tile's border, divided by the same everywhere else, of the restored picture and of its
difference to the whole one; "residual" the root mean square of y - A(x) within 2 pixels of borders
by that elsewhere. Overlap 0 is there to show what these figures say of a picture with seams.

Linux only, whose kernel keeps the peak and lets a process reset it.
Run: python benchmarks/tiles.py [--sizes 512x384,1024x768] [--output FOLDER].
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pack
import torch
from restoration import SUBDAPS, Preset, sample
from tasks import NOISE, TITLES
from torch import Tensor
from tqdm import tqdm

from undegrade.models.prior import Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur
from undegrade.pipelines.subdaps.options import SamplerOptions
from undegrade.pipelines.tiled_prior import TiledPrior, TileOptions
from undegrade.pipelines.tiling import TileGrid

SIZES = ((512, 384), (1024, 768), (2048, 1536))
TILE, OVERLAP = 256, 64
CALLS = (0, 1, 4, 16)  # tiles per network call; 0 is the whole picture
SHORT = Preset(SamplerOptions(steps=6))
OPERATORS = {
    "super_resolution": Downscale(4),
    "motion": RandomMotionBlur(side=61, intensity=0.5, seed=0),
}


def retina(width: int, height: int) -> Tensor:
    """The middle of the photograph, (1, 3, height, width) in [-1, 1], enlarged where it is less."""
    import numpy as np
    import skimage.data
    from PIL import Image

    image = Image.open(Path(skimage.data.__file__).parent / "retina.jpg").convert("RGB")
    if width > image.width or height > image.height:
        scale = max(width / image.width, height / image.height)
        size = (round(scale * image.width), round(scale * image.height))
        image = image.resize(size, Image.Resampling.LANCZOS)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = torch.from_numpy(np.array(image.crop((left, top, left + width, top + height))))
    return pixels.permute(2, 0, 1)[None].contiguous().float() / 127.5 - 1


def wrapped(prior: Prior, calls: int, overlap: int = OVERLAP) -> Prior:
    """The prior itself for 0 tiles per call."""
    return TiledPrior(prior, TileOptions(TILE, overlap), calls) if calls else prior


def degraded(truth: Tensor, task: str) -> Measurement:
    """The picture's measurement, with the noise of every benchmark."""
    return simulate(truth, OPERATORS[task], NOISE, per_sample_noise([1000]))


def memory(name: str) -> float:
    """A line of this process's status, such as its resident memory VmRSS and its peak, in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found.group(1)) / 1024


def costs(work: Callable[[], object]) -> tuple[float, float]:
    """Process seconds, and MiB of resident memory at the peak above those before."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now
    held, start = memory("VmRSS"), time.process_time()
    work()
    return time.process_time() - start, memory("VmHWM") - held


def measure(case: tuple[int, int, int]) -> dict[str, float]:
    """Seconds and peak memory of one call and of one run; in a process of its own."""
    width, height, calls = case
    torch.set_num_threads(1)
    prior = wrapped(load_pixel_prior(BUILT_IN), calls)
    with torch.no_grad():
        x, m = retina(width, height), degraded(retina(width, height), "super_resolution")
        prior.denoise(x[..., :64, :64], torch.ones(1))
        call_seconds, call_memory = costs(lambda: prior.denoise(x, torch.ones(1)))
        run_seconds, run_memory = costs(lambda: sample(prior, m, SHORT))
    return {
        "call s": call_seconds,
        "call MiB": call_memory,
        "run s": run_seconds,
        "run MiB": run_memory,
    }


def borders(grid: TileGrid) -> list[list[int]]:
    """Rows, and columns, at which a tile begins or ends inside the picture."""
    sides = ((grid.rows, grid.height), (grid.columns, grid.width))
    return [
        sorted({p for s in starts for p in (s, s + grid.tile) if 0 < p < length})
        for starts, length in sides
    ]


def jump(picture: Tensor, grid: TileGrid) -> float:
    """The mean step across borders by the mean step elsewhere, over rows and columns."""
    across, elsewhere = [], []
    for dim, at in zip((2, 3), borders(grid), strict=True):
        steps = picture.diff(dim=dim).abs().mean(dim=(0, 1, 5 - dim))
        mine = torch.zeros(len(steps), dtype=torch.bool)
        mine[[p - 1 for p in at]] = True
        across.append(steps[mine])
        elsewhere.append(steps[~mine])
    return (torch.cat(across).mean() / torch.cat(elsewhere).mean()).item()


def near_borders(values: Tensor, grid: TileGrid) -> float:
    """Root mean square within 2 pixels of borders by that elsewhere; values may be reduced."""
    rows, columns = borders(grid)
    reduction = grid.height // values.shape[-2]
    mine = torch.zeros(values.shape[-2:], dtype=torch.bool)
    for p in rows:
        mine[p // reduction - 2 : p // reduction + 2] = True
    for p in columns:
        mine[:, p // reduction - 2 : p // reduction + 2] = True
    power = values.square().mean((0, 1))
    return (power[mine].mean() / power[~mine].mean()).sqrt().item()


def seams(output: Path | None) -> list[list]:
    """One row per task and overlap, and one for the whole picture."""
    prior, truth, rows = load_pixel_prior(BUILT_IN), retina(1024, 768), []
    preset = Preset(SamplerOptions(steps=15), SUBDAPS.levels)
    for task, operator in OPERATORS.items():
        m = degraded(truth, task)
        whole = sample(prior, m, preset)
        for name, calls, overlap in (("whole", 0, OVERLAP), ("64", 1, OVERLAP), ("0", 1, 0)):
            grid = TileGrid(768, 1024, TILE, overlap)
            restored = sample(wrapped(prior, calls, overlap), m, preset) if calls else whole
            difference = restored - whole
            rows.append(
                [
                    f"{TITLES[task]}, {name if not calls else 'overlap ' + name}",
                    f"{psnr(restored, truth).item():.2f}",
                    f"{difference.square().mean().sqrt().item():.4f}",
                    f"{jump(restored, grid):.3f}",
                    f"{jump(difference, grid):.2f}" if calls else "-",
                    f"{near_borders(m.y - operator(restored), grid):.3f}",
                ]
            )
            if output:
                save(output / f"{task}_{name}.png", restored)
    return rows


def save(path: Path, pixels: Tensor) -> None:
    """Write the picture as PNG."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    values = ((pixels[0].permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte()
    Image.fromarray(values.numpy()).save(path)


def main() -> None:
    """Print both tables and write benchmarks/results/tiles.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sizes", default=",".join(f"{w}x{h}" for w, h in SIZES))
    parser.add_argument("--output", type=Path, help="folder for the restored pictures")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes = [tuple(map(int, size.split("x"))) for size in options.sizes.split(",")]
    cases = [(width, height, calls) for width, height in sizes for calls in CALLS]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        runs = pool.imap(measure, cases, chunksize=1)
        found = list(tqdm(runs, "sizes", len(cases)))
    header = ["picture", "megapixels", "tiles per call", *found[0]]
    rows = [
        [f"{w}x{h}", f"{w * h / 1e6:.2f}", calls or "whole"]
        + [f"{v:.2f}" if k.endswith(" s") else f"{v:.0f}" for k, v in figures.items()]
        for (w, h, calls), figures in zip(cases, found, strict=True)
    ]
    print(pack.table(header, rows))
    seam_header = ["task", "dB", "rms to whole", "jump", "jump of difference", "residual"]
    with torch.no_grad():
        seam_rows = seams(options.output)
    print("\n" + pack.table(seam_header, seam_rows))
    figures = {"header": header, "rows": rows, "seam_header": seam_header, "seams": seam_rows}
    pack.write_results("tiles", {"tile": TILE, "overlap": OVERLAP, **figures})


if __name__ == "__main__":
    main()
