"""What a saved picture keeps of the file it was made from: resolution and EXIF."""

import math
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image

from ..folders import Source
from .reading import EXIF_ERRORS, ORIENTATION, TOLD, opened

DETAILS, PLACE, OTHERS = 0x8769, 0x8825, 0xA005  # lists of more tags, the last in the first
COLOUR_SPACE, WIDTH, HEIGHT = 0xA001, 0xA002, 0xA003
DESCRIBING = {  # the tags of a TIFF that are not about how its pixels lie in the file
    270, 271, 272, 305, 306, 315, 33432, DETAILS, PLACE, 0x4746, 0x4749,
    *range(0x9C9B, 0x9CA0)}


def origin(prompt: Mapping[str, Any] | None, node_id: str) -> str | None:
    """The file whose picture a node saves, by the links that lead to it; of several the one that
    the first inputs lead to, None where none is known."""
    waiting, seen = [node_id], set()
    while waiting:
        node = (prompt or {}).get(waiting.pop(), {})
        links = [value for value in node.get("inputs", {}).values()
                 if isinstance(value, list | tuple) and len(value) == 2]
        for source, slot in reversed(links):
            name = (prompt or {}).get(str(source), {})
            if name.get("class_type") == "LoadImage" and slot != 0:
                continue  # its mask
            if str(source) not in seen:
                seen.add(str(source))
                waiting.append(str(source))
        if node.get("class_type") == "LoadImage":
            file = node["inputs"].get("image")
            return file if isinstance(file, str) else None
    return None


def kept(path: Source, size: tuple[int, int]) -> dict[str, Any]:
    """Options of Pillow's save: dpi and EXIF of a file, for a picture (width, height) in sRGB that
    stands upright. What is damaged is told and left out."""
    try:
        file, _, _ = opened(path.getvalue() if isinstance(path, BytesIO) else path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        TOLD.warning("%s: its resolution and EXIF are not kept, as Pillow cannot open it.", path)
        return {}
    with file:
        options: dict[str, Any] = {}
        dpi = file.info.get("dpi", ())
        if len(dpi) == 2 and all(math.isfinite(x) and 1 < x < 2**24 for x in map(float, dpi)):
            options["dpi"] = tuple(map(float, dpi))
        try:
            if exif := _exif(file, size):
                options["exif"] = exif
        except (*EXIF_ERRORS, AttributeError, OverflowError, ZeroDivisionError) as error:
            TOLD.warning("%s: its EXIF is damaged and is not kept: %s.", path, error)
        return options


def _exif(file: Image.Image, size: tuple[int, int]) -> bytes | None:
    exif = file.getexif()
    details = exif.get_ifd(DETAILS) if DETAILS in exif else {}
    for tag in list(exif):
        if tag == ORIENTATION or (file.format == "TIFF" and tag not in DESCRIBING):
            del exif[tag]
    for tag, value in {COLOUR_SPACE: 1, WIDTH: size[0], HEIGHT: size[1]}.items():
        if tag in details:
            details[tag] = value
    return exif.tobytes() if len(exif) else None
