"""Picture files of every kind, drawn and written here."""

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image

from undegrade.headless.stock.reading import read_frames

H, W = 19, 23
RANDOM = np.random.default_rng(17)
DEEP = RANDOM.integers(0, 65536, (H, W, 4)).astype(np.uint16)
SHALLOW = RANDOM.integers(0, 256, (H, W, 4)).astype(np.uint8)


def read(data: bytes):
    (frame,) = read_frames(io.BytesIO(data))
    return frame


def file_of(picture: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def tiff_of(pixels, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def chunk(kind: bytes, content: bytes, good: bool = True) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body) ^ (not good))


def png_of(pixels: np.ndarray, colour: int, depth: int, *extra: bytes) -> bytes:
    """A PNG written by hand, each row with another filter that is undone here: none but Sub."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1).astype(">u2" if depth == 16 else np.uint8)
    raw = [row.tobytes() for row in rows]
    step = len(raw[0]) // width
    lines = []
    for number, row in enumerate(raw):
        if number % 2:
            before = bytes(step) + row[:-step]
            row = bytes((a - b) % 256 for a, b in zip(row, before, strict=True))
        lines.append(bytes([number % 2]) + row)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    before = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(extra)
    return before + body + chunk(b"IEND", b"")
