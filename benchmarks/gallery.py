"""Before and after of real photographs with the damage that they have, by the command itself.

Every photograph is in the public domain or under CC BY and lies in a public repository: file,
licence, author and source stand in `PHOTOGRAPHS`; fetch them into a folder under their own names.
A window of each at its own scale is given to the command as a PNG, or the file where nothing is
cut.

Run: python benchmarks/gallery.py FOLDER [--only NAME]. Writes docs/gallery/NAME.webp, the middle of
before and after at the result's scale, and what the command said; what it refuses is shown alone.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pack
from PIL import Image, ImageDraw

OUT = pack.ROOT / "docs" / "gallery"
MOST, SIDE = 60_000, 360  # bytes of a picture, and the side that it is shown at
GOV = "public domain (work of the US government)"
FLICKR = "CC BY 2.0"


@dataclass(frozen=True)
class Photograph:
    """One entry: the file, its window (left, top, width, height), the job, and who made it."""

    file: str
    window: tuple[int, int, int, int]
    job: tuple[str, ...]
    licence: str
    author: str
    source: str
    hole: tuple[int, int, int, int] | None = None  # what is removed, in the window


PHOTOGRAPHS = {
    "conference": Photograph("sprints.jpg", (150, 60, 448, 448), ("denoise",), FLICKR,
                             "Josef Jerabek", "flickr.com/photos/pepej/21647810469"),
    "wartime": Photograph("scrap-paper.jpg", (480, 60, 448, 448), ("denoise",), GOV,
                          "Office of War Information, Library of Congress",
                          "commons.wikimedia.org, Victory_Program, 8c34784v"),
    "written_on": Photograph("scrap-paper.jpg", (700, 100, 296, 400), ("restore-old",), GOV,
                             "Office of War Information, Library of Congress",
                             "commons.wikimedia.org, Victory_Program, 8c34784v"),
    "telephone": Photograph("protosketch.jpg", (760, 900, 400, 400), ("sharpen",), GOV, "18F",
                            "github.com/18F/18f.gsa.gov"),
    "five_people": Photograph("Estonia2.jpg", (0, 0, 800, 600), ("repair",), GOV, "18F",
                              "github.com/18F/18f.gsa.gov"),
    "sauce": Photograph("bolognese-sauce-1.webp", (40, 100, 300, 300), ("enlarge", "--scale", "2"),
                        "public domain (Unlicense)", "based.cooking",
                        "github.com/LukeSmithxyz/based.cooking"),
    "workshop": Photograph("a11yhack.jpg", (0, 0, 559, 263), ("enlarge", "--scale", "2"), GOV,
                           "18F", "github.com/18F/18f.gsa.gov"),
    "lake": Photograph("arp.jpg", (0, 0, 448, 448), ("denoise",), GOV, "Forest Service",
                       "github.com/USDAForestService/fs-open-forest-platform"),
    "painter": Photograph("team-effort.jpg", (250, 120, 384, 384), ("remove",), FLICKR,
                          "City Year", "flickr.com/photos/cityyear/4636035196",
                          (104, 40, 114, 301)),
    "monkey": Photograph("monkey-backwards-bench.jpg", (380, 160, 400, 400), ("sharpen",), FLICKR,
                         "TKnoxB", "flickr.com/photos/tkb/17063787"),
}


def made(photograph: Photograph, folder: Path, work: Path) -> tuple[Image.Image, Path | None, str]:
    """The window, the result's file, and what the command said."""
    left, top, width, height = photograph.window
    whole = Image.open(folder / photograph.file)
    cut = (left, top, width, height) != (0, 0, *whole.size)
    window = whole.convert("RGB").crop((left, top, left + width, top + height))
    given = work / "given.png" if cut else folder / photograph.file
    if cut:
        window.save(given)
    command = [sys.executable, str(pack.ROOT / "undegrade"), *photograph.job, str(given),
               "--output", str(work / "result.png"), "--quiet"]
    if photograph.hole:
        mask = Image.new("L", window.size)
        x, y, w, h = photograph.hole
        ImageDraw.Draw(mask).rectangle((x, y, x + w, y + h), 255)
        mask.save(work / "mask.png")
        command += ["--mask", str(work / "mask.png")]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    said = told.splitlines()[0].split(": ", 1)[1].split(" -> ")[0]
    result = work / "result.png"
    return window, result if result.exists() else None, said


def beside(window: Image.Image, result: Path | None, file: Path) -> None:
    """Before and after in one picture of less than `MOST` bytes."""
    pictures = [window, *([Image.open(result).convert("RGB")] if result else [])]
    size = pictures[-1].size
    shown = tuple(min(SIDE, side) for side in size)
    left, top = ((n - m) // 2 for n, m in zip(size, shown, strict=True))
    box = (left, top, left + shown[0], top + shown[1])
    pictures = [one.resize(size, Image.Resampling.BICUBIC).crop(box) for one in pictures]
    strip = Image.new("RGB", (len(pictures) * (shown[0] + 4) - 4, shown[1]), "white")
    for k, one in enumerate(pictures):
        strip.paste(one, (k * (shown[0] + 4), 0))
    for quality in range(90, 20, -5):
        held = io.BytesIO()
        strip.save(held, "WEBP", quality=quality, method=6)
        if held.tell() < MOST:
            break
    file.write_bytes(held.getvalue())


def main() -> None:
    """Write the pictures and what was said."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    file = pack.RESULTS / "gallery.json"
    figures = json.loads(file.read_text())["pictures"] if file.exists() else {}
    for name, photograph in PHOTOGRAPHS.items():
        if given.only not in name:
            continue
        begin = time.perf_counter()
        with tempfile.TemporaryDirectory() as work:
            window, result, said = made(photograph, given.folder, Path(work))
            seconds = time.perf_counter() - begin
            beside(window, result, OUT / f"{name}.webp")
        figures[name] = {"command": " ".join(photograph.job), "said": said, "s": round(seconds),
                         "size": list(window.size), "licence": photograph.licence,
                         "author": photograph.author, "source": photograph.source}
        print(name, figures[name], flush=True)
        pack.write_results("gallery", {"pictures": figures})


if __name__ == "__main__":
    main()
