"""Thin things that belong to a picture: twigs, handwriting, hair, drawn where damage is looked for.

Many of one kind stand together and go nearly the same way, or fork; a scratch is alone.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FINER = 4  # times finer than a pixel is drawn
Line = tuple[np.ndarray, float]
"""(points, (n, 2) of x and y, and a width), in pixels."""


def natural(x: Tensor, rng: np.random.Generator) -> Tensor:
    """The crop with thin things that belong to it: many of one kind, where damage is alone."""
    from PIL import Image, ImageDraw

    side = x.shape[-1]
    canvas = Image.new("L", (FINER * side, FINER * side))
    pen, kind = ImageDraw.Draw(canvas), ("twigs", "writing", "whiskers")[int(rng.integers(3))]
    for path, broad in {"twigs": twigs, "writing": writing, "whiskers": whiskers}[kind](rng, side):
        points = [tuple(map(float, FINER * p)) for p in path]
        pen.line(points, 255, max(1, round(FINER * broad)), "curve")
    cover = F.avg_pool2d(torch.from_numpy(np.array(canvas)).float()[None] / 255, FINER)
    dark = rng.random() < (0.3 if kind == "whiskers" else 0.8)
    value = rng.uniform(-1, -0.3) if dark else rng.uniform(0.4, 1)
    ink = torch.from_numpy(value + rng.normal(0, 0.15, 3)).float().clamp(-1, 1)
    return torch.lerp(x, ink[:, None, None], cover * rng.uniform(0.6, 1.0))


def walk(
    rng: np.random.Generator, at: np.ndarray, angle: float, length: float, wild: float, bend: float
) -> np.ndarray:
    """(n, 2): a line of steps of two pixels that turns as it goes."""
    return at + 2 * wander(rng, angle, max(2, int(length / 2)), wild, bend)


def wander(
    rng: np.random.Generator, angle: float, steps: int, wild: float, bend: float
) -> np.ndarray:
    """(steps, 2): a way from the origin in steps of 1, each turned by `bend` and by chance."""
    turns = angle + np.cumsum(bend + rng.normal(0, wild, steps))
    return np.cumsum(np.stack([np.cos(turns), np.sin(turns)], 1), 0)


def twigs(rng: np.random.Generator, side: int) -> list[Line]:
    """Branches that fork and grow thinner: lines and their widths, in pixels."""
    at, angle = side * rng.uniform(-0.1, 1.1, 2), rng.uniform(0, 2 * math.pi)
    ends, found = [(at, angle, rng.uniform(40, 100), rng.uniform(1.5, 5.0))], []
    while ends and len(found) < 40:
        at, angle, length, broad = ends.pop(0)
        path = walk(rng, at, angle, length, 0.08, 0.0)
        found.append((path, broad))
        for _ in range(int(rng.integers(1, 4)) if broad > 0.7 else 0):
            turn, place = rng.uniform(0.3, 1.0) * rng.choice([-1, 1]), rng.integers(len(path))
            ends.append((path[place], angle + turn, length * rng.uniform(0.4, 0.8), 0.65 * broad))
    return found


def writing(rng: np.random.Generator, side: int) -> list[Line]:
    """Lines of loops, as handwriting."""
    size, broad, slope = rng.uniform(4, 14), rng.uniform(0.8, 2.5), rng.normal(0, 0.1)
    found, y = [], side * rng.uniform(0, 0.6)
    for _ in range(int(rng.integers(1, 4))):
        x = side * rng.uniform(-0.2, 0.4)
        for _ in range(int(rng.integers(2, 6))):
            letters = int(rng.integers(2, 8))
            t = np.linspace(0, 2 * math.pi * letters, 10 * letters)
            height = size * np.repeat(rng.uniform(0.3, 1.2, letters), 10)
            across = x + 0.09 * size * t + 0.35 * size * np.sin(t + rng.uniform(0, 6))
            up = y + slope * (across - x) + height * np.cos(t) / 2
            found.append((np.stack([across, up], 1), broad))
            x = across[-1] + size * rng.uniform(0.8, 1.6)
        y += size * rng.uniform(2.0, 3.5)
    return found


def whiskers(rng: np.random.Generator, side: int) -> list[Line]:
    """Hair, grass or wires that start near each other and go nearly the same way."""
    at, angle = side * rng.uniform(0, 1, 2), rng.uniform(0, 2 * math.pi)
    spread, apart = rng.uniform(0.05, 0.5), rng.uniform(2, 20)
    broad, bend = rng.uniform(0.6, 2.0), rng.normal(0, 0.02)
    return [(walk(rng, at + rng.normal(0, apart, 2), angle + rng.normal(0, spread),
                  rng.uniform(20, 110), 0.02, bend), broad * rng.uniform(0.7, 1.2))
            for _ in range(int(rng.integers(4, 16)))]
