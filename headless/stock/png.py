"""PNG files with good pixels and bad or large data beside them."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
USED = (b"tRNS", b"pHYs", b"eXIf", b"acTL", b"fcTL", b"fdAT")  # of the chunks one may do without
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
TURNING = (b"Raw profile type exif\0", b"Raw profile type APP1\0", b"XML:com.adobe.xmp\0")
SIZES = {b"pHYs": 9, b"acTL": 8, b"fcTL": 26}  # of their content, in bytes
SRGB_CODE = bytes([1, 13])  # primaries and transfer in a cICP chunk
DAMAGED = "its profile, orientation or other data beside the pixels is damaged and was left out"
LARGEST = 2**20  # bytes of such a text; Pillow refuses a picture with a larger one


def essential(data: bytes) -> tuple[bytes, bytes | None, list[str]]:
    """A PNG without what is not needed to show it: (the file, its colour profile, what is to be
    said).

    Chunks with pixels stay, whatever is wrong with them; a damaged one of the others goes.
    """
    kept, profile, damaged, colours = [SIGNATURE], None, False, {}
    for kind, content, whole, good in _chunks(data):
        if not kind[0] & 0x20:  # needed to show it
            kept.append(whole)
            continue
        wanted = kind in USED or (kind in TEXTS and content.startswith(TURNING))
        if kind == b"iCCP":
            profile = _profile(content) if good else None
            damaged |= profile is None
        elif wanted and good and _fits(kind, content):
            kept.append(whole)
        elif wanted:
            damaged = True
        elif kind in (b"gAMA", b"cICP", b"sRGB") and good:
            colours[kind] = content
    notes = [DAMAGED] if damaged else []
    if profile is None and (other := _other_colours(colours)):
        notes.append(f"{other}, which is not heeded: its colours are taken for sRGB")
    return b"".join(kept), profile, notes


def _other_colours(chunks: dict[bytes, bytes]) -> str:
    """What chunks say of colours that are not sRGB's, "" for nothing."""
    code = chunks.get(b"cICP", SRGB_CODE)
    if code[:2] != SRGB_CODE:
        return f"its cICP chunk names colours of another kind ({', '.join(map(str, code[:2]))})"
    gamma = chunks.get(b"gAMA", b"")
    if chunks.keys() & {b"cICP", b"sRGB"} or len(gamma) != 4:
        return ""
    (value,) = struct.unpack(">I", gamma)
    return "" if abs(value - 45455) < 2300 else f"its gAMA chunk says {value / 100000:.3f}"


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes, bool]]:
    """(kind, content, the whole chunk, whether its checksum is right), as far as there are any."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        whole = data[at:at + 12 + size]
        content = whole[8:8 + size]
        good = len(whole) == 12 + size and whole[-4:] == struct.pack(">I", zlib.crc32(whole[4:-4]))
        yield kind, content, whole, good
        if kind == b"IEND":
            return
        at += 12 + size


def _fits(kind: bytes, content: bytes) -> bool:
    """Whether Pillow takes a chunk: by its length, or that of the text packed in it."""
    if kind not in TEXTS:
        return len(content) == SIZES.get(kind, len(content))
    _, _, text = content.partition(b"\0")
    if kind == b"iTXt":
        flag, text = text[:1], text[2:].split(b"\0", 2)[-1]
        packed = text if flag == b"\1" else b""
    else:
        packed = text[1:] if kind == b"zTXt" else b""
    unpacker = zlib.decompressobj()
    try:
        return len(content) <= LARGEST and len(unpacker.decompress(packed, LARGEST)) < LARGEST
    except zlib.error:
        return False


def _profile(content: bytes) -> bytes | None:
    """The profile of an iCCP chunk, None where it cannot be unpacked."""
    _, _, packed = content.partition(b"\0")
    try:
        return zlib.decompress(packed[1:])
    except zlib.error:
        return None
