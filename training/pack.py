"""Packs the folder of reduced photographs into few bytes, for a machine that has only Pillow.

Of each picture the middle of at most `side` x `side` pixels is kept (cropped and never resized:
what is sharp stays sharp) and written as a JPEG without reduced colours (4:4:4), at the lowest
quality that comes within `psnr` dB of it. Pictures that are held back (`held_out.txt`) are refused:
a folder that is trained on must not have them.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile

from ..pipelines.options import Options, option
from .command import read_options
from .data import pictures_below
from .photographs import held_out

QUALITIES = range(84, 96)  # above, a texture takes far more bytes than it gains
ImageFile.MAXBLOCK = 2**24  # bytes; a progressive JPEG has to fit into Pillow's buffer


@dataclass(frozen=True)
class PackOptions(Options):
    """Options of this script."""

    pictures: str = option("runs/photographs", "Folder of reduced photographs.")
    out: str = option("runs/packed", "Folder that the JPEGs go to; files there are replaced.")
    megabytes: float = option(42.0, "All files together, in MiB.", min=0.01, max=4096.0)
    psnr: float = option(42.0, "Least PSNR of a file against its picture, dB.", min=20.0, max=60.0)
    side: int = option(560, "Largest side, pixels; what is larger is cropped.", min=64, max=8192)
    workers: int = option(1, "Processes.", min=1, max=256)


def main(arguments: Sequence[str]) -> int:
    """Write the files and say what they cost."""
    options = read_options(PackOptions, arguments, "Packs photographs for a bare machine.")
    files = pictures_below(Path(options.pictures))
    kept = sorted({file.stem for file in files} & set(held_out()))
    if kept:
        raise ValueError(f"{', '.join(kept)}: held back by held_out.txt, so take them out first.")
    count = len(files)
    with ProcessPoolExecutor(options.workers) as pool:
        packed = list(pool.map(pack, files, [options.side] * count, [options.psnr] * count))
    megabytes = sum(len(data) for data, _, _ in packed) / 2**20
    if megabytes > options.megabytes:
        smaller = int(options.side * (options.megabytes / megabytes) ** 0.5)
        raise ValueError(f"The files take {megabytes:.1f} MiB; --side {smaller} may fit.")
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.jpg"):
        old.unlink()
    for file, (data, _, _) in zip(files, packed, strict=True):
        (out / f"{file.stem}.jpg").write_bytes(data)
    errors = np.array([error for _, error, _ in packed])
    print(  # noqa: T201
        f"{count} pictures, {megabytes:.1f} MiB, {sum(n for _, _, n in packed) / 1e6:.0f} million "
        f"pixels; PSNR {errors.min():.1f} dB at least, {np.median(errors):.1f} in the median."
    )
    return 0


def pack(file: Path, side: int, psnr: float) -> tuple[bytes, float, int]:
    """The JPEG of a picture's middle, its PSNR in dB and its pixels."""
    with Image.open(file) as image:
        picture = middle(image.convert("RGB"), side)
    low, high = QUALITIES[0], QUALITIES[-1]
    while low < high:
        half = (low + high) // 2
        low, high = (low, half) if jpeg(picture, half)[1] >= psnr else (half + 1, high)
    return *jpeg(picture, low), picture.width * picture.height


def middle(picture: Image.Image, side: int) -> Image.Image:
    """At most `side` pixels each way."""
    width, height = (min(side, own) for own in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))


def jpeg(picture: Image.Image, quality: int) -> tuple[bytes, float]:
    """A picture as a JPEG, and the PSNR of that in dB."""
    held = io.BytesIO()
    picture.save(held, "JPEG", quality=quality, subsampling=0, progressive=True)
    with Image.open(held) as again:
        difference = np.asarray(again, np.float32) - np.asarray(picture, np.float32)
    return held.getvalue(), float(10 * np.log10(255**2 / max(np.square(difference).mean(), 1e-4)))
