"""Samples: crops of drawn canvases or of a folder of pictures, and their degraded versions.

Every data set here gives sample i from its seed and i alone. A training run that is resumed at
sample i therefore sees what the uninterrupted run would have seen, with any number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..pipelines.degradation.real_world import RealWorldDegradation, degrade
from ..pipelines.options import option
from .loop import LoopOptions
from .synthetic import canvas

ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
GREY = 0.15  # share of samples
KEPT = 2**30  # bytes of pictures in memory
REDUCTIONS, REDUCTION_ODDS = (1, 2, 3), (0.6, 0.3, 0.1)  # a picture seen from further away


def stream(*key: int) -> np.random.Generator:
    """Random numbers that belong to a key such as (seed, sample)."""
    return np.random.default_rng(key)


def render(folder: Path, count: int, seed: int, side: int = 512) -> Path:
    """A file of `count` canvases, (count, side, side, 3) uint8; one that is there is taken again.

    Canvas k is `canvas` of the k-th seed drawn from `seed`. The file appears whole or not at all.
    """
    from tqdm import tqdm

    file = folder / f"canvases-{count}-{side}-{seed}.npy"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".part-{os.getpid()}")
    shape = (count, side, side, 3)
    pixels = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    seeds = stream(seed).integers(0, 2**62, count)
    for k, own in enumerate(tqdm(seeds, desc="drawing canvases")):
        pixels[k] = canvas(int(own), side)
    pixels.flush()
    part.replace(file)
    return file


class Canvases(Dataset):
    """Augmented crops of the canvases in a file of `render`.

    Sample i is (3, side, side) float32 in [-1, 1]. length: samples; there is no end to crops.
    """

    def __init__(self, file: Path, side: int, seed: int, length: int) -> None:
        self.file, self.side, self.seed, self.length = file, side, seed, length

    @cached_property
    def pixels(self) -> np.ndarray:
        """The canvases, read as they are needed."""
        return np.load(self.file, mmap_mode="r")

    def __getstate__(self) -> dict:
        """Workers open the file for themselves."""
        return {k: v for k, v in self.__dict__.items() if k != "pixels"}

    def __len__(self) -> int:
        """Samples."""
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Sample `index`."""
        rng = stream(self.seed, index)
        return sample(self.pixels[rng.integers(len(self.pixels))], self.side, rng)


def pictures_below(folder: Path) -> list[Path]:
    """The files of pictures in a folder and in its folders, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS)


class Folder(Dataset):
    """Augmented crops of the pictures in a folder and in its folders.

    Sample i is (3, side, side) float32 in [-1, 1]. Pictures stay in memory, once read, up to
    `KEPT` bytes in all. Raises `ValueError` for a folder without pictures, and on reading a
    picture smaller than a crop.
    """

    def __init__(self, folder: Path, side: int, seed: int, length: int) -> None:
        self.files = pictures_below(folder)
        if not self.files:
            raise ValueError(f"{folder} has no pictures; give a folder with {', '.join(ENDINGS)}.")
        self.side, self.seed, self.length = side, seed, length
        self.kept: dict[Path, np.ndarray] = {}

    def __len__(self) -> int:
        """Samples."""
        return self.length

    def read(self, file: Path) -> np.ndarray:
        """A picture, (H, W, 3) uint8; the ones read first are let go."""
        from PIL import Image

        if file not in self.kept:
            with Image.open(file) as image:
                pixels = np.asarray(image.convert("RGB"))
            while self.kept and sum(x.nbytes for x in self.kept.values()) + pixels.nbytes > KEPT:
                del self.kept[next(iter(self.kept))]
            self.kept[file] = pixels
        return self.kept[file]

    def __getitem__(self, index: int) -> Tensor:
        """Sample `index`."""
        rng = stream(self.seed, index)
        file = self.files[rng.integers(len(self.files))]
        pixels = self.read(file)
        if min(pixels.shape[:2]) < self.side:
            raise ValueError(
                f"{file.name} has {pixels.shape[1]}x{pixels.shape[0]} pixels, fewer than a crop of "
                f"{self.side}; remove it or make the crops smaller."
            )
        return sample(pixels, self.side, rng)


def sample(pixels: np.ndarray, side: int, rng: np.random.Generator) -> Tensor:
    """A crop of a picture, (H, W, 3) uint8, averaged, turned and recoloured at random."""
    fits = min(pixels.shape[:2]) // side
    reduction = min(int(rng.choice(REDUCTIONS, p=REDUCTION_ODDS)), fits)
    reach = side * reduction
    top, left = (int(rng.integers(0, n - reach + 1)) for n in pixels.shape[:2])
    crop = np.array(pixels[top : top + reach, left : left + reach])
    x = torch.from_numpy(crop).permute(2, 0, 1).float() / 255
    if reduction > 1:
        x = torch.nn.functional.avg_pool2d(x, reduction)
    return augment(x, rng) * 2 - 1


def augment(x: Tensor, rng: np.random.Generator) -> Tensor:
    """(3, h, w) in [0, 1], square: one of 8 orientations, and colours changed within reason, at
    times to grey, which a network must learn to recognise."""
    from kornia.enhance import adjust_contrast, adjust_gamma, adjust_saturation

    x = torch.rot90(x, int(rng.integers(4)), (1, 2))
    if rng.random() < 0.5:
        x = x.flip(2)
    if rng.random() < 0.3:
        x = x[torch.from_numpy(rng.permutation(3))]
    saturation, contrast, gamma = rng.uniform((0.3, 0.6, 0.7), (1.2, 1.2, 1.4))
    x = adjust_saturation(x, saturation) if rng.random() < 0.5 else x
    x = adjust_contrast(x, contrast) if rng.random() < 0.5 else x
    x = adjust_gamma(x, gamma) if rng.random() < 0.5 else x
    x = x.mean(0, keepdim=True).expand(3, -1, -1) if rng.random() < GREY else x
    return x.clamp(0, 1).contiguous()


@dataclass(frozen=True, eq=False)
class Mixture(Dataset):
    """Sample i is that of one of two data sets of equal length, of the second with odds `share`."""

    first: Dataset
    second: Dataset
    share: float
    seed: int

    def __len__(self) -> int:
        """Samples."""
        return len(self.first)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Tensor:
        """Sample `index`."""
        chosen = self.second if stream(self.seed, index, 3).random() < self.share else self.first
        return chosen[index]


@dataclass(frozen=True, eq=False)
class DegradedPairs(Dataset):
    """(low, high resolution) of every picture of a data set, the former by Real-World Degradation.

    strengths: one of them is drawn for each sample. Sample i is ((3, side / scale, side / scale),
    (3, side, side)), float32 in [-1, 1].
    """

    pictures: Dataset
    seed: int
    strengths: Sequence[str] = ("mild", "StableSR", "InvSR")
    scale: int = 4

    def __len__(self) -> int:
        """Samples."""
        return len(self.pictures)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample `index`."""
        rng = stream(self.seed, index, 1)
        options = RealWorldDegradation(str(rng.choice(self.strengths)), self.scale)
        high = self.pictures[index]
        return degrade(high[None], options, [int(rng.integers(2**62))])[0], high


@dataclass(frozen=True)
class SourceOptions(LoopOptions):
    """What a run trains on."""

    pictures: str = option("", "Folder of pictures to train on; empty draws canvases.")
    canvases: int = option(600, "How many canvases are drawn, where any are.", min=1)
    drawn: float = option(
        0.0, "Share of drawn canvases beside the pictures of a folder.", min=0.0, max=1.0
    )


def source(options: SourceOptions, side: int, seed: int, length: int) -> Dataset:
    """Crops of the user's pictures where a folder is named, of canvases drawn into `out`, or both.

    The noise levels, orders and crops of a run depend on `seed` alone.
    """
    def canvases() -> Dataset:
        return Canvases(render(Path(options.out), options.canvases, seed), side, seed, length)

    if not options.pictures:
        return canvases()
    folder = Folder(Path(options.pictures), side, seed, length)
    return Mixture(folder, canvases(), options.drawn, seed) if options.drawn else folder


def described(options: SourceOptions) -> str:
    """What the metadata of a trained file says of its data."""
    drawn = f"{options.canvases} canvases drawn by training/synthetic.py from seed {options.seed}"
    if not options.pictures:
        return f"{drawn}; no photographs"
    pictures = f"pictures of the folder {Path(options.pictures).name}"
    if not options.drawn:
        return pictures
    return f"{pictures}, and for {options.drawn:.0%} of the samples {drawn}"
