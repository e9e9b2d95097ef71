"""A workflow in the metadata of a picture that is too large to look at."""

import json
import struct
import zlib

from undegrade.headless.folders import Folders
from undegrade.headless.load import load
from undegrade.headless.pack import Pack


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_picture_of_any_size_gives_its_workflow(tmp_path):
    """500 megapixels: more than Pillow opens for looking at, and no pixel of it is read."""
    node = {"id": 1, "type": "UndegradeJPEG", "widgets_values": [30]}
    text = b"workflow\0" + json.dumps({"nodes": [node], "links": []}).encode()
    header = struct.pack(">IIBBBBB", 25_000, 20_000, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    parts = chunk(b"IHDR", header), chunk(b"tEXt", text), pixels, chunk(b"IEND", b"")
    path = tmp_path / "large.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    catalog = Pack.load().catalog(Folders.around(path, tmp_path))
    assert load(path, catalog).graph().nodes["1"].inputs["quality"] == 30
