"""What a training run leaves behind beside its weights: metrics.csv and pictures."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


class Metrics:
    """metrics.csv: per validation the mean terms since the last one, the scores, rate and time.

    first: steps seen by the checkpoint that a run resumes from; later rows are dropped.
    """

    def __init__(self, path: Path, first: int, main: bool) -> None:
        self.path, self.main = path, main
        self.terms: list[dict[str, Tensor]] = []
        self.since = time.monotonic()
        if main:
            path.parent.mkdir(parents=True, exist_ok=True)
            kept = [row for row in self.rows() if int(row["step"]) <= first]
            path.write_text("")
            for row in kept:
                self.append(row)

    def rows(self) -> list[dict[str, str]]:
        """What the file holds."""
        if not self.path.is_file():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def append(self, row: dict[str, Any]) -> None:
        """One row, with the header before the first."""
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def add(self, terms: dict[str, Tensor]) -> None:
        """The terms of one step, numbers that are read when the interval is closed."""
        self.terms.append(terms)

    def write(self, step: int, rate: float, scores: dict[str, float]) -> None:
        """Close an interval."""
        if self.main:
            read = {k: torch.stack([t[k] for t in self.terms]).tolist() for k in self.terms[0]}
            means = {k: float(np.mean(values)) for k, values in read.items()}
            seconds = (time.monotonic() - self.since) / len(self.terms)
            row = {"step": step, "rate": rate, "seconds_per_step": seconds}
            self.append({**row, **means, **scores})
        self.terms, self.since = [], time.monotonic()


def save_pictures(pictures: Tensor, path: Path) -> None:
    """(B, 3, H, W) in [-1, 1], one beside the other."""
    from einops import rearrange
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    row = rearrange((pictures.float().cpu().clamp(-1, 1) + 1) * 127.5, "b c h w -> h (b w) c")
    Image.fromarray(row.round().byte().numpy()).save(path)
