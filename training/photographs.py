"""Makes the folder of photographs that the shipped prior was trained on, from their originals.

`photographs.csv` lists them: name, reduction, licence, author, source and the SHA-256 of the
original file. All are in the public domain or under CC0 or CC BY; none is a photograph that tests
or benchmarks use. Sources are a repository with its commit and the path there, or a package of
Debian; fetch what you can reach into any folder, and this finds each by its content.

A picture is turned upright as its EXIF says, cropped to a multiple of its reduction r at the right
and at the bottom, and averaged over r x r pixels, which removes what JPEG left in it. The names in
`held_out.txt` go to a folder of their own: they are for judging, and nothing is trained on them.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps
from tqdm import tqdm

from ..pipelines.options import Options, option
from .command import read_options
from .data import pictures_below

LIST = Path(__file__).with_name("photographs.csv")
HELD_OUT = LIST.with_name("held_out.txt")


@dataclass(frozen=True)
class PhotographOptions(Options):
    """Options of this script."""

    originals: str = option("", "Folder with the originals, in any order and under any names.")
    out: str = option("runs/photographs", "Folder that the reduced pictures go to.")
    held_out: str = option("runs/held_out", "Folder for those that are never trained on.")


def main(arguments: Sequence[str]) -> int:
    """Write the pictures whose originals are there; returns 1 where some are missing."""
    options = read_options(PhotographOptions, arguments, "Makes the shipped prior's photographs.")
    if not options.originals or not Path(options.originals).is_dir():
        raise ValueError(f"{options.originals!r} is no folder; name one with --originals.")
    found = by_content(Path(options.originals))
    rows, out, apart = listed(), Path(options.out), held_out()
    for folder in (out, Path(options.held_out)):
        folder.mkdir(parents=True, exist_ok=True)
    missing = [row for row in rows if row["sha256"] not in found]
    for row in tqdm([row for row in rows if row["sha256"] in found], desc="reducing"):
        picture = reduced(found[row["sha256"]], int(row["reduction"]))
        folder = Path(options.held_out) if row["name"] in apart else out
        picture.save(folder / f"{row['name']}.png")
    print(  # noqa: T201
        f"{len(rows) - len(missing)} of {len(rows)} photographs are in {out}"
        f" or held back in {options.held_out}."
    )
    for row in missing:
        print(f"missing: {row['name']}, from {row['source']}")  # noqa: T201
    return 1 if missing else 0


def listed() -> list[dict[str, str]]:
    """The rows of `photographs.csv`."""
    with LIST.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def held_out() -> list[str]:
    """Names of `held_out.txt`: photographs for judging, which nothing is trained on."""
    return HELD_OUT.read_text(encoding="utf-8").split()


def by_content(folder: Path) -> dict[str, Path]:
    """SHA-256 -> file, of every picture in a folder and in its folders."""
    files = pictures_below(folder)
    return {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}


def reduced(file: Path, reduction: int) -> Image.Image:
    """A picture averaged over squares of `reduction` pixels, RGB."""
    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    width, height = (side // reduction * reduction for side in upright.size)
    return upright.crop((0, 0, width, height)).reduce(reduction)
