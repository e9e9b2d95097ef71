"""Reads picture files: every mode of Pillow and TIFF, at full depth, in sRGB, turned upright."""

import logging
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageFile, ImageSequence, UnidentifiedImageError

from ..folders import Source
from . import png, tiffs
from .profiles import ProfileError, deep_shown, lab_shown, shown

TOLD = logging.getLogger("undegrade")
ORIENTATION = 0x0112
TURNED = {  # what turns a picture upright, by its EXIF orientation
    2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: np.rot90(a)}
FOUR_BYTES = "LA;16B"  # Pillow's name for grey with alpha of 16 bits in a PNG
SCALED = {"1": 255, "L;1": 255, "L;2": 85, "L;4": 17}  # raw mode -> the step of its levels
ONE = ("MPO", "PSD")  # the rest are other views, gain maps and layers
EXIF_ERRORS = (OSError, SyntaxError, ValueError, KeyError, TypeError, IndexError, struct.error)


@dataclass(frozen=True)
class Frame:
    """A picture: (H, W, 3) float32 in [0, 1] in sRGB, its opacity (H, W) if it has one, whether its
    file has no colours, and whether it has more than 8 bits."""

    colours: np.ndarray
    alpha: np.ndarray | None
    grey: bool = False
    deep: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.colours.shape[0], self.colours.shape[1]


def read_frames(path: Source) -> list[Frame]:
    """Every picture of a file, such as the frames of an animation or the pages of a TIFF.

    Of an MPO only the first, as in ComfyUI, of a PSD all layers as one, no page's reduced versions.

    Raises:
        ValueError: not a picture, a truncated one, or one whose pixels cannot be told.
    """
    try:
        return _frames(path.getvalue() if isinstance(path, BytesIO) else path.read_bytes(), path)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, struct.error, zlib.error,
            Image.DecompressionBombError) as error:
        why = "no picture format is recognised in it" if isinstance(error, UnidentifiedImageError) \
            else str(error).rstrip(".")
        raise ValueError(f"cannot read {path} as a picture: {why}; open it in another program, or "
                         "save it again as PNG or JPEG.") from error


def opened(data: bytes) -> tuple[ImageFile.ImageFile, bytes | None, list[str]]:
    """A file as Pillow opens it, its profile, and what is to be said of data beside the pixels."""
    if not data.startswith(png.SIGNATURE):
        file = Image.open(BytesIO(data))
        return file, file.info.get("icc_profile"), []
    data, profile, notes = png.essential(data)
    return Image.open(BytesIO(data)), profile, notes


def _frames(data: bytes, path: Source) -> list[Frame]:
    try:
        frames = _by_pillow(data, path)
    except (UnidentifiedImageError, SyntaxError):
        if data[:2] not in (b"II", b"MM"):
            raise
        frames = None
    return [_deep(path, *page) for page in tiffs.read(data)] if frames is None else frames


def _by_pillow(data: bytes, path: Source) -> list[Frame] | None:
    """The pictures of a file; None of a TIFF in which Pillow misreads any."""
    file, profile, notes = opened(data)
    frames = []
    with file:
        for note in notes:
            TOLD.warning("%s: %s.", path, note)
        for index, page in enumerate(ImageSequence.Iterator(file)):
            tags = getattr(page, "tag_v2", {})
            if frames and (file.format in ONE or tags.get(254, 0) & tiffs.REDUCED):
                continue
            raw = _raw(page)
            if file.format == "TIFF" and tiffs.beyond_pillow(page, raw):
                return None
            own = page.info.get("icc_profile") if file.format == "TIFF" else profile
            frames.append(_frame(page.copy(), raw, tags, own, data, index, path))
    if not frames:
        raise ValueError("it holds no picture")
    return frames


def _frame(page: Image.Image, raw: str, tags: dict, profile: bytes | None, data: bytes, index: int,
           path: Source) -> Frame:
    values, most = _levels(page, raw, data, index, tags)
    turn = _orientation(page, path)
    if values is None:  # 8 bits
        grey = page.mode in ("1", "L", "LA", "La")
        return _upright(_colours(page, profile, path), _alpha(page, raw), turn, grey)
    alpha = None
    if values.shape[-1] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1] / most
    elif (hidden := page.info.get("transparency")) is not None:
        alpha = (values != np.array(hidden)).any(-1).astype(np.float64)
    values = values / most
    values = 1 - values if tags.get(tiffs.COLOURS) == tiffs.WHITE_IS_ZERO else values
    return _deep(path, values, alpha, turn, profile)


def _levels(page: Image.Image, raw: str, data: bytes, index: int,
            tags: dict) -> tuple[np.ndarray | None, int]:
    """The levels (H, W, C) of a picture of more than 8 bits, and the highest there may be."""
    if raw == FOUR_BYTES:
        pairs = _again(data, index, "RGBA")
        return 256 * pairs[..., 0::2] + pairs[..., 1::2], 65535
    kind, _, order = raw.partition(";16")
    if kind in ("RGB", "RGBA") and order:
        other = {"L": "B", "B": "L", "N": "B"}[order]  # takes the bytes that this one leaves
        high, low = np.asarray(page).astype(np.int64), _again(data, index, f"{kind};16{other}")
        return 256 * high + low, 65535
    if page.mode.startswith("I;16") or page.mode == "I":
        bits = tags.get(tiffs.BITS, (16,))[0] if page.mode != "I" else 16
        grey = np.asarray(page.convert("I")).astype(np.int64)[..., None]
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"its levels go from {grey.min()} to {grey.max()}, 0 to 65535 was "
                             "expected")
        return grey, 2**bits - 1
    if page.mode == "F":
        return tiffs.in_range(np.asarray(page), 32)[..., None], 1
    return None, 255


def _again(data: bytes, index: int, raw: str) -> np.ndarray:
    """The same pixels, unpacked as if they were another raw mode of the same width."""
    file, _, _ = opened(data)
    with file:
        file.seek(index)
        file.tile = [tile._replace(args=raw if isinstance(tile.args, str)
                                   else (raw, *(tile.args or ())[1:])) for tile in file.tile]
        return np.asarray(file).astype(np.int64)


def _raw(page: Image.Image) -> str:
    """How Pillow will unpack the pixels of a file that it has not loaded yet."""
    tiles: Any = getattr(page, "tile", None)
    args = tiles[0].args if tiles else ""
    args = args[0] if isinstance(args, Sequence) and not isinstance(args, str) and args else args
    return args if isinstance(args, str) else ""


def _colours(page: Image.Image, profile: bytes | None, path: Source) -> np.ndarray:
    """The colours of a picture of 8 bits."""
    if page.mode == "LAB":
        return np.asarray(lab_shown(page)).astype(np.float32) / 255
    rgb = page
    if profile:
        try:
            rgb = shown(page, profile)
        except ProfileError as error:
            TOLD.warning("%s: its colour profile is not used: %s.", path, error)
    return np.asarray(rgb.convert("RGB")).astype(np.float32) / 255


def _alpha(page: Image.Image, raw: str) -> np.ndarray | None:
    """The opacity of a picture of 8 bits, or None where it has none."""
    hidden = page.info.get("transparency")
    if page.mode in ("1", "L", "RGB") and hidden is not None:
        levels = np.asarray(page.convert("L") if page.mode == "1" else page)
        levels = levels[..., None] if levels.ndim == 2 else levels
        return (levels != np.array(hidden) * SCALED.get(raw, 1)).any(-1).astype(np.float32)
    if page.mode in ("P", "PA", "RGBa", "La") and (hidden is not None or page.mode != "P"):
        page = page.convert("RGBA")
    if page.mode not in ("LA", "RGBA"):  # LAB has another A
        return None
    return np.asarray(page.getchannel("A")).astype(np.float32) / 255


def _deep(path: Source, values: np.ndarray, alpha: np.ndarray | None, turn: int,
          profile: bytes | None, deep: bool = True) -> Frame:
    """A picture of more than 8 bits, or signed ones: grey or RGB (H, W, 1 or 3) in [0, 1]."""
    if profile:
        try:
            values = deep_shown(values, profile)
        except ProfileError as error:
            TOLD.warning("%s: its colour profile is not used: %s.", path, error)
    colours = np.broadcast_to(values, (*values.shape[:2], 3)).astype(np.float32)
    alpha = None if alpha is None else alpha.astype(np.float32)
    return _upright(colours, alpha, turn, values.shape[-1] == 1, deep)


def _upright(colours: np.ndarray, alpha: np.ndarray | None, turn: int, grey: bool,
             deep: bool = False) -> Frame:
    turned = TURNED.get(turn, lambda a: a)
    return Frame(np.ascontiguousarray(turned(colours)),
                 None if alpha is None else np.ascontiguousarray(turned(alpha)), grey, deep)


def _orientation(page: Image.Image, path: Source) -> int:
    try:
        return int(page.getexif().get(ORIENTATION, 1))
    except EXIF_ERRORS:
        TOLD.warning("%s: its EXIF is damaged and was left out; nothing turns it upright.", path)
        return 1
