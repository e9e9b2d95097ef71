"""A picture as a file: PNG, JPEG, TIFF or WebP, of 8 bits or, where the format has them, of 16."""

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from .metadata import DESCRIBING, DETAILS, OTHERS, PLACE
from .png import SIGNATURE
from .reading import TOLD

KINDS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF",
         ".webp": "WEBP"}
SETTINGS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95, "method": 4}, "PNG": {"compress_level": 4}}
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> a PNG's
METRE = 39.3701  # inches
DEFLATE, CONTIGUOUS, STRAIGHT_ALPHA, INCHES = 8, 1, 2, 2  # values of a TIFF's tags
UP = 2  # the filter of PNG rows that takes the row above away


def writer(image: Tensor, ending: str, deep: bool, chunks: PngInfo, kept: Mapping[str, Any],
           fast: bool = False) -> Callable[[IO[bytes]], Any]:
    """What writes a picture to a stream.

    Args:
        image: (H, W, 1 to 4), grey or RGB with or without alpha, clipped to [0, 1].
        ending: one of `KINDS`.
        deep: 16 bits, in PNG and TIFF.
        chunks: texts; a PNG alone carries them.
        kept: dpi and EXIF.
        fast: a PNG that is larger and written sooner.
    """
    kind = KINDS[ending]
    if deep and kind == "PNG":
        return partial(_deep_png, image, chunks, kept)
    if deep and kind == "TIFF":
        return partial(_tiff, _sixteen_bits(image), kept)
    if deep:
        TOLD.warning("%s holds 8 of the picture's 16 bits.", kind)
    picture = eight_bits(image)
    if kind == "TIFF":
        return partial(_tiff, np.asarray(picture), kept)
    if kind == "JPEG" and picture.mode in ("LA", "RGBA"):
        if picture.getchannel("A").getextrema()[0] < 255:
            TOLD.warning("JPEG holds no transparency; the picture is laid on white.")
        ground = Image.new("RGBA", picture.size, "white")
        without = picture.mode.removesuffix("A")
        picture = Image.alpha_composite(ground, picture.convert("RGBA")).convert(without)
    more = {"pnginfo": chunks} if kind == "PNG" else {}
    settings = {"compress_level": 1} if fast else SETTINGS[kind]
    return partial(picture.save, format=kind, **settings, **more, **kept)


def eight_bits(image: Tensor) -> Image.Image:
    """A picture (H, W, C): clipped and, as ComfyUI does, cut to whole numbers; but alpha, which
    comes as 1 - (1 - alpha), is rounded, or it would lose a level wherever it is below 1/2."""
    levels = (image.detach().float().cpu() * 255).clamp(0, 255)
    if levels.shape[-1] in (2, 4):
        levels[..., -1].round_()
    pixels = levels.numpy().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def _sixteen_bits(image: Tensor) -> np.ndarray:
    pixels = (image.detach().cpu().to(torch.float64) * 65535).round().clamp(0, 65535)
    return pixels.numpy().astype(np.uint16)


def _deep_png(image: Tensor, chunks: PngInfo, kept: Mapping[str, Any], stream: IO[bytes]) -> None:
    """Pillow writes no colours of 16 bits."""
    pixels = _sixteen_bits(image)
    height, width, channels = pixels.shape
    rows = pixels.astype(">u2").view(np.uint8).reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = UP
    filtered[:, 1:] = np.diff(rows, axis=0, prepend=np.zeros_like(rows[:1]))
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[channels], 0, 0, 0)
    parts = [(b"IHDR", head)]
    if dpi := kept.get("dpi"):
        per_metre = [round(value * METRE) for value in dpi]
        parts.append((b"pHYs", struct.pack(">IIB", *per_metre, 1)))
    if exif := kept.get("exif"):
        parts.append((b"eXIf", exif.removeprefix(b"Exif\0\0")))
    parts += [(kind, data) for kind, data, *_ in chunks.chunks]
    parts += [(b"IDAT", zlib.compress(filtered.tobytes(), 6)), (b"IEND", b"")]
    stream.write(SIGNATURE)
    for kind, data in parts:
        check = zlib.crc32(kind + data)
        stream.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check))


def _tiff(pixels: np.ndarray, kept: Mapping[str, Any], stream: IO[bytes]) -> None:
    """Pillow fails on EXIF in one that is packed; but EXIF is a TIFF without pixels, which are put
    behind it."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    height, width, channels = pixels.shape
    packed = zlib.compress(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), 6)
    tags = _described(kept.get("exif", b""))
    own = {256: width, 257: height, 258: (8 * pixels.itemsize,) * channels, 259: DEFLATE,
           262: 1 + (channels > 2), 273: 0, 277: channels, 278: height, 279: len(packed),
           284: CONTIGUOUS}
    if channels in (2, 4):
        own[338] = STRAIGHT_ALPHA
    if dpi := kept.get("dpi"):
        own |= {282: dpi[0], 283: dpi[1], 296: INCHES}
    for tag, value in own.items():
        tags[tag] = value
    stream.write(tags.tobytes().removeprefix(b"Exif\0\0"))  # the offset, 273, is that of its end
    stream.write(packed)


def _described(exif: bytes) -> Image.Exif:
    """What EXIF says of a picture, and not of its file, in the byte order of most processors."""
    given, tags = Image.Exif(), Image.Exif()
    given.load(exif)
    tags.endian = "<"
    for tag in DESCRIBING.intersection(given):
        inside = given.get_ifd(tag) if tag in (DETAILS, PLACE) else None
        if inside and OTHERS in inside:
            inside = {**inside, OTHERS: given.get_ifd(OTHERS)}
        tags[tag] = given[tag] if inside is None else inside
    return tags
