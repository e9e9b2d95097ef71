"""Find Scratches on photographs with drawn scratches, and on the same ones clean.

Streaks of 1 to 4 pixels and specks of dust, softened as a scanner does, white or black, some of
them coloured a little as faded prints are; six streaks and six specks on each photograph, at
256x256 and at up to 512x512 of the photograph's own pixels. Recall is the share of the visibly
damaged pixels that are marked, precision the share of the marked ones that lie within two pixels of
damage, and `clean` the share of an undamaged photograph that is marked. `streaks` and `specks` are
the shares of them of which more than half is marked.

Run: python benchmarks/scratches.py [--set TUNING] [--sheet FILE.png]
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import pack
import torch
import torch.nn.functional as F
from photos import EVALUATION, FILES, TUNING, photo
from PIL import Image, ImageDraw
from torch import Tensor

from undegrade.models.scratch_finder import BUILT_IN, load_scratch_finder
from undegrade.pipelines.photograph.scratches import ScratchOptions, scratches

STREAKS, DUST = 6, 6
FINER = 4  # times finer than a pixel is drawn
FINDER = load_scratch_finder(Path(os.environ.get("SCRATCHES", BUILT_IN)))
VISIBLE = 0.08  # of black to white


def whole_photo(name: str) -> Tensor:
    """The middle of a photograph in its own pixels, (1, 3, H, W) of at most 512 a side."""
    import skimage.data

    file = Path(skimage.data.__file__).parent / FILES.get(name, f"{name}.png")
    image = Image.open(file).convert("RGB")
    width, height = (min(side, 512) for side in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    pixels = np.array(image.crop((left, top, left + width, top + height)))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def damaged(x: Tensor, seed: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The photograph with scratches and dust, where they show, (1, 1, H, W) bool, and what each
    covers, the streaks first."""
    draw, spoilt, covers = np.random.default_rng(seed), x.clone(), []
    for k in range(STREAKS + DUST):
        alpha = drawn(draw, x.shape[-2:], k < STREAKS) * draw.uniform(0.6, 1.0)
        value = draw.uniform(0.7, 1.0) if draw.random() < 0.75 else draw.uniform(-1.0, -0.8)
        colour = torch.from_numpy(value + draw.normal(0, 0.04, 3)).float().clamp(-1, 1)
        spoilt = torch.lerp(spoilt, colour[None, :, None, None], alpha)
        covers.append(alpha > 0.2)
    spoilt = ((spoilt + 1) * 127.5).round() / 127.5 - 1
    return spoilt, (spoilt - x).abs().mean(1, keepdim=True) / 2 > VISIBLE, covers


def drawn(draw: np.random.Generator, size: tuple[int, int], streak: bool) -> Tensor:
    """How much of each pixel one mark covers, (1, 1, H, W)."""
    height, width = size
    canvas = Image.new("L", (FINER * width, FINER * height))
    pen, (x, y) = ImageDraw.Draw(canvas), FINER * draw.uniform(0, 1, 2) * (width, height)
    broad = FINER * draw.uniform(1.0, 4.0)
    if streak:
        angle, bend = draw.uniform(0, 2 * math.pi), draw.normal(0, 0.004)
        length, points = draw.uniform(40, 250), []
        for _ in range(int(length)):
            points.append((x, y))
            angle += bend + draw.normal(0, 0.01)
            x, y = x + FINER * math.cos(angle), y + FINER * math.sin(angle)
        pen.line(points, 255, round(broad), "curve")
    else:
        a, b = broad * draw.uniform(0.5, 1.2, 2)
        pen.ellipse((x - a, y - b, x + a, y + b), 255)
    soft = torch.from_numpy(np.array(canvas)).float()[None, None] / 255
    soft = F.avg_pool2d(soft, FINER)
    return 0.5 * soft + 0.5 * F.avg_pool2d(soft, 3, 1, 1)


def judged(x: Tensor, seed: int, options: ScratchOptions) -> tuple[dict[str, float], list[Tensor]]:
    """Counts of one photograph, and what to look at."""
    spoilt, where, covers = damaged(x, seed)
    begin = time.perf_counter()
    found = scratches(spoilt, options, FINDER) > 0
    seconds = time.perf_counter() - begin
    clean = scratches(x, options, FINDER) > 0
    near = F.max_pool2d(where.float(), 5, 1, 2) > 0
    counts = {"damaged": where.sum(), "hit": (where & found).sum(), "marked": found.sum(),
              "right": (found & near).sum(), "false": clean.sum(), "pixels": clean.numel()}
    for k, cover in enumerate(covers):
        kind, shows = "streaks" if k < STREAKS else "specks", cover & where
        counts[kind] = counts.get(kind, 0) + bool(shows.any())
        half = bool((found & shows).sum() > shows.sum() / 2)
        counts[f"{kind} found"] = counts.get(f"{kind} found", 0) + half
    return {k: float(v) for k, v in counts.items()} | {"s": seconds}, [spoilt, where, found, clean]


def scores(counts: dict[str, float]) -> dict[str, float]:
    """Recall, precision and the share of a clean picture, in per cent."""
    return {"recall": round(counts["hit"] / max(counts["damaged"], 1), 3),
            "precision": round(counts["right"] / max(counts["marked"], 1), 3),
            "clean %": round(100 * counts["false"] / counts["pixels"], 2),
            **{kind: round(counts[f"{kind} found"] / max(counts[kind], 1), 2)
               for kind in ("streaks", "specks")},
            "s": round(counts["s"], 2)}


def sheet(rows: list[list[Tensor]], file: str) -> None:
    """Damaged, truth, found, and found in the clean one; a row for each photograph."""
    side = max(max(row[0].shape[-2:]) for row in rows)
    canvas = Image.new("RGB", (4 * side, len(rows) * side))
    for r, row in enumerate(rows):
        for c, x in enumerate(row):
            shown = (x.float() * 255 if x.dtype == torch.bool else (x + 1) * 127.5)[0]
            pixels = shown.expand(3, -1, -1).byte().permute(1, 2, 0).numpy()
            canvas.paste(Image.fromarray(pixels), (c * side, r * side))
    canvas.save(file)


def main() -> None:
    """Print a table and write it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--set", choices=("EVALUATION", "TUNING"), default="EVALUATION")
    parser.add_argument("--sheet", default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    figures, names = {}, {"EVALUATION": EVALUATION, "TUNING": TUNING}[given.set]
    for kind, read in (("256x256", photo), ("own pixels", whole_photo)):
        all_counts, rows, shown = {}, {}, []
        for k, name in enumerate(names):
            counts, pictures = judged(read(name), k, ScratchOptions())
            rows[name] = scores(counts)
            all_counts = {key: all_counts.get(key, 0) + v for key, v in counts.items()}
            shown.append(pictures)
        rows["all"] = scores(all_counts)
        figures[kind] = rows
        lines = [[name, *row.values()] for name, row in rows.items()]
        print(f"\n{kind}\n" + pack.table(["", *rows["all"]], lines), flush=True)
        if given.sheet:
            sheet(shown, given.sheet.replace(".png", f"_{kind.split()[0]}.png"))
    if given.set == "EVALUATION":
        pack.write_results("scratches", {"photographs": figures})


if __name__ == "__main__":
    main()
