"""Colour profiles: a tagged picture shows what a colour-managed viewer shows."""

import io
import struct
import zlib

import numpy as np
import pytest
from drawn_files import DEEP, SHALLOW, chunk, file_of, png_of, read, tiff_of
from PIL import Image, ImageCms

D50 = (0.9642, 1.0, 0.8249)
PRIMARIES = {  # XYZ of red, green and blue under D50, and the gamma
    "Display P3": ([0.51512, 0.2412, -0.00105], [0.29198, 0.69225, 0.04189],
                   [0.1571, 0.06657, 0.78407], None),
    "Adobe RGB": ([0.60974, 0.31111, 0.01947], [0.20528, 0.62567, 0.06087],
                  [0.14919, 0.06322, 0.74457], 563 / 256),
    "ProPhoto": ([0.7977, 0.288, 0.0], [0.1352, 0.7119, 0.0], [0.0313, 0.0001, 0.8249], 1.8),
}


def number(*values: float) -> bytes:
    return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))


def curve(gamma: float | None, kind: str) -> bytes:
    """A tone curve of each kind that profiles have; None is sRGB's."""
    if gamma is None and kind == "table":
        x = np.linspace(0, 1, 1024)
        y = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
        table = (65535 * y).round().astype(int).tolist()
        return b"curv" + bytes(4) + struct.pack(">I1024H", 1024, *table)
    if gamma is None:
        shape = number(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para" + bytes(4) + struct.pack(">HH", 3, 0) + shape
    if kind == "table":
        return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256))
    return b"para" + bytes(4) + struct.pack(">HH", 0, 0) + number(gamma)


def profile_of(name: str, kind: str = "parametric") -> bytes:
    """An ICC profile, version 4, of three primaries, or of grey for a name that is a gamma."""
    text = b"mluc" + bytes(4) + struct.pack(">II2s2sII", 1, 12, b"en", b"US", 2, 28) + b"\0x"
    tags = {b"desc": text, b"cprt": text, b"wtpt": b"XYZ " + bytes(4) + number(*D50)}
    if name in PRIMARIES:
        *columns, gamma = PRIMARIES[name]
        for letter, column in zip((b"r", b"g", b"b"), columns, strict=True):
            tags[letter + b"XYZ"] = b"XYZ " + bytes(4) + number(*column)
            tags[letter + b"TRC"] = curve(gamma, kind)
    else:
        tags[b"kTRC"] = curve(float(name), kind)
    at, table, body = 132 + 12 * len(tags), b"", b""
    for tag, content in tags.items():
        content += bytes(-len(content) % 4)
        table += struct.pack(">4sII", tag, at + len(body), len(content))
        body += content
    size, space = at + len(body), b"RGB " if name in PRIMARIES else b"GRAY"
    head = (struct.pack(">I4sI4s4s4s", size, bytes(4), 0x04200000, b"mntr", space, b"XYZ ")
            + bytes(12) + b"acsp" + bytes(28) + number(*D50))
    head += bytes(128 - len(head))
    return head + struct.pack(">I", len(tags)) + table + body


def viewed(picture: Image.Image, profile: bytes) -> np.ndarray:
    """What littlecms makes of it in 8 bits, (H, W, 3)."""
    made = ImageCms.profileToProfile(picture, ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                                     ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.asarray(made).astype(float)


@pytest.mark.parametrize("kind", ["table", "parametric"])
@pytest.mark.parametrize("name", PRIMARIES)
@pytest.mark.parametrize("file", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_colours_are_shown_as_a_managed_viewer_shows_them(name, kind, file):
    profile = profile_of(name, kind)
    for channels in (3, 4)[:1 if file == "JPEG" else 2]:
        picture = Image.fromarray(SHALLOW[..., :channels])
        options = {"lossless": True} if file == "WEBP" else {}
        data = file_of(picture, file, icc_profile=profile, **options)
        frame, stored = read(data), Image.open(io.BytesIO(data)).convert("RGB")
        expected = viewed(stored, profile)
        assert np.array_equal((255 * frame.colours).round(), expected)
        assert abs(expected - np.asarray(stored)).max() > 20  # there was something to change
        if channels == 4:
            assert np.array_equal(frame.alpha, SHALLOW[..., 3] / np.float32(255))


@pytest.mark.parametrize("kind", ["table", "parametric"])
@pytest.mark.parametrize("name", [*PRIMARIES, "1.8", "2.6"])
def test_16_bits_are_shown_alike_and_keep_their_depth(name, kind):
    grey = name not in PRIMARIES
    pixels, profile = DEEP[..., :1 if grey else 3], profile_of(name, kind)
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(profile))
    tag = [(34675, 7, len(profile), profile, True)]
    shape = pixels[..., 0] if grey else pixels
    files = (png_of(pixels, 0 if grey else 2, 16, packed),
             tiff_of(shape, photometric="minisblack" if grey else "rgb", extratags=tag))
    rough = Image.fromarray((shape / 257).round().astype(np.uint8))
    expected = viewed(rough, profile)
    for data in files:
        made = read(data).colours
        assert np.quantile(abs(255 * made - expected), 0.99) < 3 and len(np.unique(made)) > 300
        level = abs(255 * made - (255 * made).round())
        assert level.mean() > 0.1  # not levels of 8 bits


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_a_grey_profile(mode):
    grey = Image.fromarray(SHALLOW[..., 0]).convert(mode)
    frame = read(file_of(grey, "PNG", icc_profile=profile_of("1.0")))
    expected = viewed(grey.convert("L"), profile_of("1.0"))
    assert np.array_equal((255 * frame.colours).round(), expected)


def ink_profile() -> bytes:
    """A profile of four inks, of one table with two steps a side; deliberately no printer's."""
    inks = np.stack(np.meshgrid(*4 * [np.array([0, 255], np.uint8)], indexing="ij"), -1)
    inks = inks.reshape(4, 4, 4)
    rgb = Image.fromarray(255 - np.maximum(inks[..., :3] // 2, inks[..., 3:]))
    lab = ImageCms.profileToProfile(rgb, ImageCms.createProfile("sRGB"),
                                    ImageCms.createProfile("LAB"), outputMode="LAB")
    corners = np.asarray(lab).copy()
    corners[..., 1:] ^= 128  # from signed bytes to the table's offset
    ramp = bytes(range(256))
    table = (b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + number(1, 0, 0, 0, 1, 0, 0, 0, 1)
             + 4 * ramp + corners.tobytes() + 3 * ramp)
    head = (struct.pack(">I4sI4s4s4s", 144 + len(table), bytes(4), 0x02400000, b"prtr", b"CMYK",
                        b"Lab ") + bytes(12) + b"acsp" + bytes(28) + number(*D50))
    head += bytes(128 - len(head))
    return head + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


@pytest.mark.parametrize("file", ["JPEG", "TIFF"])
def test_inks_are_shown_by_their_profile(file):
    inks, profile = Image.fromarray(SHALLOW, "CMYK"), ink_profile()
    data = file_of(inks, file, icc_profile=profile)
    stored = Image.open(io.BytesIO(data))
    expected = viewed(stored, profile)
    assert np.array_equal((255 * read(data).colours).round(), expected)
    assert abs(expected - np.asarray(stored.convert("RGB"))).mean() > 20
    plain = file_of(inks, file)
    naive = np.asarray(Image.open(io.BytesIO(plain)).convert("RGB"))
    assert np.array_equal(read(plain).colours, naive / np.float32(255))


def test_srgb_itself_changes_no_level():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frame = read(file_of(Image.fromarray(SHALLOW[..., :3]), "PNG", icc_profile=srgb))
    assert np.array_equal(frame.colours, SHALLOW[..., :3] / np.float32(255))
    packed = chunk(b"iCCP", b"x\0\0" + zlib.compress(srgb))
    frame = read(png_of(DEEP[..., :3], 2, 16, packed))
    assert np.array_equal(frame.colours, DEEP[..., :3] / np.float32(65535))


@pytest.mark.parametrize("profile", [
    b"nonsense", profile_of("Display P3")[:200], b"", profile_of("2.2")])
@pytest.mark.parametrize("deep", [False, True])
def test_a_profile_that_says_nothing_is_left_out_and_that_is_said(profile, deep, caplog):
    packed = chunk(b"iCCP", b"x\0\0" + (zlib.compress(profile) if profile else b"torn"))
    pixels, most = (DEEP, 65535) if deep else (SHALLOW, 255)
    frame = read(png_of(pixels[..., :3], 2, 16 if deep else 8, packed))
    assert np.array_equal(frame.colours, pixels[..., :3] / np.float32(most))
    assert "profile" in caplog.text
