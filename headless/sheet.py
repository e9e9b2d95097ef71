"""Pictures side by side: what several values of widgets make, and before and after."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .graph import WorkflowError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

GAP, CAPTION, LEAST = 8, 28, 96  # pixels; a caption needs some room
LARGEST = 16384  # the side of a sheet


def variants(settings: Iterable[str]) -> tuple[list[list[str]], int]:
    """Every combination of the values that widgets are given, and how many stand in a row.

    Raises:
        WorkflowError: more than two widgets have several values.
    """
    values: dict[str, list[str]] = {}
    for text in settings:
        values.setdefault(text.partition("=")[0], []).append(text)
    several = [texts for texts in values.values() if len(texts) > 1]
    if len(several) > 2:
        names = ", ".join(texts[0].partition("=")[0] for texts in several)
        raise WorkflowError(f"--set gives several values to {names}; a contact sheet has rows and "
                            "columns, so give several to two widgets at most.")
    fixed = [text for texts in values.values() if len(texts) == 1 for text in texts]
    chosen = [[*fixed, *one] for one in itertools.product(*several)]
    return chosen, len(several[-1]) if several else 1


def captions(chosen: Sequence[Sequence[str]]) -> list[str]:
    """What tells each combination from the others."""
    common = set(chosen[0]).intersection(*chosen)
    told = []
    for one in chosen:
        parts = [text.partition("=") for text in one if text not in common]
        told.append(", ".join(f"{name.rpartition('.')[2]} {value}" for name, _, value in parts))
    return told


def draw_sheet(pictures: Sequence[tuple[str, "Path | Image.Image"]], columns: int,
               path: Path) -> None:
    """Lay pictures, each under its caption, in rows; the sheet is a PNG at `path`.

    Pictures that would make it larger than `LARGEST` are shown smaller, all by one factor.
    """
    from PIL import Image, ImageDraw, ImageFont

    opened = []
    for text, file in pictures:
        with Image.open(file) if isinstance(file, Path) else file as picture:
            opened.append((text, picture.convert("RGB")))
    rows = -(-len(opened) // columns)
    width, height = (max(p.size[k] for _, p in opened) for k in (0, 1))
    scale = min(1.0, (LARGEST / columns - GAP) / width, (LARGEST / rows - GAP - CAPTION) / height)
    cell = max(LEAST, round(width * scale)), round(height * scale)
    sheet = Image.new("RGB", (columns * (cell[0] + GAP) - GAP,
                              rows * (cell[1] + CAPTION + GAP) - GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for number, (text, picture) in enumerate(opened):
        x = number % columns * (cell[0] + GAP)
        y = number // columns * (cell[1] + CAPTION + GAP)
        size = [max(1, round(side * scale)) for side in picture.size]
        sheet.paste(picture.resize(size, Image.Resampling.LANCZOS), (x, y + CAPTION))
        draw.text((x + 4, y + 4), text, fill="black", font=font)
    sheet.save(path, format="PNG")


def compare(before: Path, after: Path, path: Path, marked: "Tensor | None" = None) -> None:
    """Both side by side, the one before as large as the one after; between them a mask, if any."""
    from PIL import Image, ImageOps

    with Image.open(after) as picture:
        size = picture.size
    with Image.open(before) as picture:
        whole = ImageOps.exif_transpose(picture).convert("RGB")
    shown = [("before", whole.resize(size, Image.Resampling.BICUBIC)), ("after", after)]
    if marked is not None:
        shown.insert(1, ("filled in", picture_of(marked).convert("RGB")))
    draw_sheet(shown, len(shown), path)


def picture_of(mask: "Tensor") -> "Image.Image":
    """A MASK as a grey picture."""
    from PIL import Image

    return Image.fromarray((255 * mask[0]).round().byte().cpu().numpy())
