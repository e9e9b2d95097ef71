"""Trains the network that finds scratches.

Scratches, hairs, dust and folds are drawn over crops of pictures, and the network learns where: per
pixel, bright and dark ones apart. The pictures are drawn canvases or a folder of yours, whose own
wires, hair and letters must not be marked; twigs, handwriting and whiskers are drawn into some of
them first, and are no marks (`natural`). A third of the crops has no damage at all. Afterwards a
crop may fade, tint, blur, grain and be saved as JPEG, as scans are.

    loss = mean of w BCE(logit, mark),   w = 3 on marks, 8 on dust, of which there are few pixels,
                                         1 elsewhere, 0 where a mark hardly shows
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ..models.scratch_finder import WIDTHS, ScratchNetwork, load_scratch_finder
from ..pipelines.options import option
from .command import command_line, read_options, samples_seen, write_weights
from .data import SourceOptions, described, source, stream
from .loop import Task, start, train
from .natural_lines import FINER, natural, wander

VISIBLE, SEEN = 0.08, 0.03  # of black to white: what must be found, and what may be
ON_MARKS, ON_DUST = 3.0, 8.0  # weight of a pixel of a mark
NATURAL = 0.4  # share of the crops with thin things of their own
HARD = 0.25  # share of the marks that are drawn in whole pixels
UNSEEN, HELD_OUT = 8, 32  # canvases and crops of the validation


@dataclass(frozen=True)
class ScratchTraining(SourceOptions):
    """Options of this script."""

    side: int = option(128, "Side of the crops in pixels, a multiple of 8.", min=32, step=8)
    widths: str = option(",".join(map(str, WIDTHS)), "Channels per resolution, the finest first.")
    like: str = option("", "Weight file of a finder to go on from; empty starts afresh.")


@dataclass(frozen=True, eq=False)
class Scratched(Dataset):
    """(picture, marks, weights) of every crop: (3, s, s) in [-1, 1], (2, s, s), (2, s, s)."""

    pictures: Dataset
    seed: int

    def __len__(self) -> int:
        """Samples."""
        return len(self.pictures)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sample `index`."""
        rng = stream(self.seed, index, 5)
        return scratched(self.pictures[index], rng)


def scratched(clean: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A crop with marks, where they are, and how much each pixel counts."""
    x = aged(natural(clean, rng) if rng.random() < NATURAL else clean, rng)
    spoilt, dusty = x.clone(), torch.zeros(x.shape[-2:], dtype=torch.bool)
    for kind in marks(rng):
        cover = drawn(rng, x.shape[-1], kind) * rng.uniform(0.35, 1.0)
        dusty |= (cover > 0) & (kind == "dust")
        bright = rng.random() < 0.7
        value = rng.uniform(0.45, 1.0) if bright else rng.uniform(-1.0, -0.6)
        paper = torch.from_numpy(value + rng.normal(0, 0.08, 3)).float().clamp(-1, 1)
        spoilt = torch.lerp(spoilt, paper[:, None, None], cover)
    change = (spoilt - x).mean(0) / 2
    both = torch.stack([change, -change])
    found = (both > VISIBLE).float()
    on = torch.where(dusty, ON_DUST, ON_MARKS)
    weight = torch.where((both > SEEN) & (both <= VISIBLE), 0.0, 1 + (on - 1) * found)
    return scanned(spoilt, rng), found, weight


def marks(rng: np.random.Generator) -> list[str]:
    """What is drawn on one crop."""
    if rng.random() < 0.33:
        return []
    often = {"streak": 1.4, "dust": 3.0, "hair": 0.5, "crack": 0.25}
    return [kind for kind, mean in often.items() for _ in range(int(rng.poisson(mean)))]


def drawn(rng: np.random.Generator, side: int, kind: str) -> Tensor:
    """How much of each pixel one mark covers, (side, side) in [0, 1]."""
    from PIL import Image, ImageDraw

    canvas = Image.new("L", (FINER * side, FINER * side))
    pen, at = ImageDraw.Draw(canvas), FINER * side * rng.uniform(0, 1, 2)
    broad = FINER * rng.uniform(0.8, 5.0) * rng.uniform(0.5, 1)
    if kind == "dust":
        a, b = FINER * rng.uniform(0.8, 4.5) * rng.uniform(0.75, 1.25, 2)
        pen.ellipse((at[0] - a, at[1] - b, at[0] + a, at[1] + b), 255)
    else:
        angle, bend = rng.uniform(0, 2 * math.pi), rng.normal(0, 0.004)
        wild = {"streak": 0.01, "crack": 0.12, "hair": 0.05}[kind]
        gaps, dark = rng.random() < 0.25, False
        length = int(rng.uniform(30, 250))
        if kind == "hair":
            length, broad, bend = length // 5 + 4, 0.5 * broad, rng.normal(0, 0.08)
        way = FINER * wander(rng, angle, length, wild, bend)
        path = at - way[-1] * rng.random() + way
        for first in range(0, length - 1, 6):
            dark = rng.random() < 0.3 if gaps else False
            if not dark:
                piece = [tuple(map(float, p)) for p in path[first : first + 8]]
                width = broad if kind == "streak" else broad * rng.uniform(0.5, 1.3)
                pen.line(piece, int(255 * rng.uniform(0.7, 1)), max(1, round(width)), "curve")
    soft = torch.from_numpy(np.array(canvas)).float()[None, None] / 255
    if rng.random() < HARD:
        return (soft[0, 0, ::FINER, ::FINER] > 0.5).float()
    soft = F.avg_pool2d(soft, FINER)
    mixed = rng.uniform(0.0, 0.8)
    return ((1 - mixed) * soft + mixed * F.avg_pool2d(soft, 3, 1, 1))[0, 0]


def aged(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Colours of an old print: faded, tinted, or neither."""
    if rng.random() < 0.3:
        tint = torch.tensor([1.0, 0.87, 0.68]) ** rng.uniform(0.2, 1.2)
        x = (x.mean(0, keepdim=True) + 1) * tint[:, None, None] - 1
    if rng.random() < 0.4:
        low, high = rng.uniform(-1, -0.6), rng.uniform(0.5, 1)
        x = low + (x + 1) / 2 * (high - low)
    return x


def scanned(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Softness, grain and JPEG over all of it, in 8 bits."""
    from PIL import Image

    if rng.random() < 0.3:
        x = 0.5 * x + 0.5 * F.avg_pool2d(F.pad(x[None], (1,) * 4, mode="replicate"), 3, 1)[0]
    if rng.random() < 0.5:
        grain = rng.standard_normal((1 if rng.random() < 0.5 else 3, *x.shape[1:]))
        x = x + rng.uniform(0, 0.12) * torch.from_numpy(grain).float()
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()
    if rng.random() < 0.4:
        file = io.BytesIO()
        quality = int(rng.integers(40, 95))
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
        pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)
    return pixels.float() / 127.5 - 1


class ScratchTask(Task):
    """The network under the loss above."""

    def __init__(self, network: torch.nn.Module, held_out: list[Tensor]) -> None:
        super().__init__()
        self.network, self.held_out = network, held_out

    def forward(self, batch: list[Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """The loss."""
        x, found, weight = batch
        loss = F.binary_cross_entropy_with_logits(self.network(x), found, weight)
        return {"entropy": loss}

    def validate(self) -> tuple[dict[str, float], Tensor]:
        """Precision and recall of pixels at even odds, on drawn canvases of another seed."""
        x, found, weight = (t.to(next(self.network.parameters()).device) for t in self.held_out)
        marked, true = self.network(x) > 0, found > 0
        hit = float((marked & true).sum())
        counted = (marked & (weight > 0)).sum()
        scores = {"recall": hit / float(true.sum()), "precision": hit / max(float(counted), 1)}
        shown = torch.cat([marked.float() * 2 - 1, torch.full_like(x[:, :1], -1)], 1)
        return scores, torch.cat([x[:4], shown[:4]])


def main(arguments: Sequence[str]) -> int:
    """Train, and write `<out>/scratches.safetensors`."""
    options = read_options(ScratchTraining, arguments, "Trains the network that finds scratches.")
    accelerator = start(options)
    with accelerator.main_process_first():  # the others find the canvases drawn
        length = options.steps * options.batch * accelerator.num_processes
        data = Scratched(source(options, options.side, options.seed, length), options.seed)
        other = replace(options, pictures="", canvases=UNSEEN)
        crops = source(other, options.side, options.seed + 1, HELD_OUT)
        unseen = Scratched(crops, options.seed + 1)
    held_out = [torch.stack(part) for part in zip(*(unseen[i] for i in range(HELD_OUT)),
                                                  strict=True)]
    if options.like:
        network = load_scratch_finder(Path(options.like)).network.requires_grad_(True)
    else:
        network = ScratchNetwork(tuple(int(part) for part in options.widths.split(",")))
    task = ScratchTask(network.to(memory_format=torch.channels_last), held_out)  # type: ignore
    for _ in train(task, data, options, accelerator):
        pass
    if accelerator.is_main_process:
        with torch.inference_mode():
            scores, _ = task.eval().validate()
        file = Path(options.out) / "scratches.safetensors"
        write_weights(task.network, file, history(options, scores))
    return 0


def history(options: ScratchTraining, scores: dict[str, float]) -> dict[str, Any]:
    """What the file says of how it was made."""
    return {
        "kind": "scratch finder",
        "command": command_line("scratches", options),
        "seed": str(options.seed),
        "data": described(options),
        "steps": str(options.steps),
        "samples": samples_seen(options.steps, options.batch),
        "held_out_scores": scores,
    }
