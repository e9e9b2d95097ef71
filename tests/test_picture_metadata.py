"""Good pixels beside bad data are read; resolution and EXIF go on to what is saved."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import tifffile
import torch
from drawn_files import DEEP, SHALLOW, chunk, file_of, png_of, read
from PIL import Image, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo

from undegrade.headless.stock import metadata
from undegrade.headless.stock.writing import writer


def text_chunk(size: int) -> bytes:
    return chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * size))


BESIDE = {
    "text of 3 MB": chunk(b"tEXt", b"workflow\0" + b"x" * 3_000_000),
    "packed text of 3 MB": text_chunk(3_000_000),
    "80 MB of text": b"".join(chunk(b"tEXt", b"a\0" + b"x" * 900_000) for _ in range(80)),
    "checksum of text": chunk(b"tEXt", b"a\0b", good=False),
    "checksum of gamma": chunk(b"gAMA", struct.pack(">I", 45455), good=False),
    "checksum of EXIF": chunk(b"eXIf", b"II*\0\x08\0\0\0", good=False),
    "torn text": chunk(b"zTXt", b"a\0\0torn"),
    "torn international text": chunk(b"iTXt", b"a"),
    "short resolution": chunk(b"pHYs", b"\0"),
    "torn EXIF": chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f"),
    "nonsense EXIF": chunk(b"eXIf", b"nonsense"),
    "large packed EXIF text": chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(
        b"x" * 3_000_000)),
    "torn EXIF text": chunk(b"zTXt", b"Raw profile type exif\0\0torn"),
    "large packed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(
        b"x" * 3_000_000)),
    "70 MB of XMP": b"".join(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 13_600_000)
                             for _ in range(5)),
    "unknown": chunk(b"quEr", b"y"),
}


@pytest.mark.parametrize("beside", BESIDE)
@pytest.mark.parametrize("deep", [False, True])
def test_good_pixels_beside_bad_data_are_read(beside, deep):
    pixels, most = (DEEP, 65535) if deep else (SHALLOW, 255)
    data = png_of(pixels[..., :3], 2, 16 if deep else 8, BESIDE[beside])
    for whole in (data, data + b"trailing"):
        frame = read(whole)
        assert np.array_equal(frame.colours, pixels[..., :3] / np.float32(most))
    assert "exif" not in metadata.kept(io.BytesIO(data), (4, 4))


@pytest.mark.parametrize("torn", [b"nonsense", b"II*\0\xff\xff\xff\x7f", b"II*\0\x08\0\0\0\xff\xff",
                                  b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\xff\xff\xff\xff\0\0\0\0"])
@pytest.mark.parametrize("file", ["JPEG", "WEBP"])
def test_damaged_exif_does_not_hide_a_picture(file, torn):
    picture = Image.fromarray(SHALLOW[..., :3])
    plain, broken = (file_of(picture, file, exif=exif) for exif in (b"", b"Exif\0\0" + torn))
    assert np.array_equal(read(plain).colours, read(broken).colours)
    metadata.kept(io.BytesIO(broken), (4, 4))


def described(file: str) -> bytes:
    picture = Image.fromarray(SHALLOW[..., :3])
    more = {0x9003: "2026:11:27 10:00:00", 0xA002: 23, 0xA003: 19, 0xA001: 65535}
    if file == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags[0x0112], tags[0x010F], tags[0x8298] = 6, "Maker", "Somebody"
        tags[0x8769], tags[0x8825] = more, {1: "N"}
        return file_of(picture, file, tiffinfo=tags, dpi=(300, 150))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x8298] = 6, "Maker", "Somebody"
    exif.get_ifd(0x8769).update(more)
    exif.get_ifd(0x8825)[1] = "N"
    return file_of(picture, file, exif=exif, dpi=(300, 150))


@pytest.mark.parametrize("file", ["JPEG", "PNG", "TIFF"])
def test_resolution_and_exif_survive_and_orientation_does_not(call, tmp_path, file):
    (tmp_path / "p.bin").write_bytes(described(file))
    image, _ = call("LoadImage", image="p.bin")
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "p.bin"}},
              "2": {"class_type": "Any", "inputs": {"steps": 2, "image": ["1", 0]}},
              "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}
    call("SaveImage", images=image, filename_prefix="x", prompt=prompt, unique_id="3")
    with Image.open(tmp_path / "out" / "x_00001_.png") as saved:
        assert saved.info["dpi"] == pytest.approx((300, 150), abs=0.02)
        assert saved.size == (19, 23) and json.loads(saved.text["prompt"]) == prompt
        exif = saved.getexif()
        assert 0x0112 not in exif and 0x0100 not in exif
        assert (exif[0x010F], exif[0x8298]) == ("Maker", "Somebody")
        details = exif.get_ifd(0x8769)
        assert details[0x9003] == "2026:11:27 10:00:00" and exif.get_ifd(0x8825)[1] == "N"
        assert (details[0xA001], details[0xA002], details[0xA003]) == (1, 19, 23)


@pytest.mark.parametrize("file", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_holds_the_exif_of_a_camera(deep, channels, file):
    kept, stream = metadata.kept(io.BytesIO(described(file)), (19, 23)), io.BytesIO()
    pixels = (DEEP if deep else SHALLOW)[..., :channels]
    most = np.float32(65535 if deep else 255)
    writer(torch.from_numpy(pixels / most), ".tif", deep, PngInfo(), kept)(stream)
    stream.seek(0)
    with tifffile.TiffFile(stream) as written:
        (page,) = written.pages
        assert np.array_equal(page.asarray().reshape(pixels.shape), pixels)
        assert len(page.extrasamples) == (channels in (2, 4)) and page.tags["Make"].value == "Maker"
        details, place = page.tags["ExifTag"].value, page.tags["GPSTag"].value
        assert details["DateTimeOriginal"] == "2026:11:27 10:00:00"
        assert (details["PixelXDimension"], place["GPSLatitudeRef"]) == (19, "N")
        assert page.get_resolution() == pytest.approx((300, 150), abs=0.02)
        assert "Orientation" not in page.tags


def test_a_picture_of_no_file_keeps_nothing():
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "p.png"}},
              "2": {"class_type": "MaskToImage", "inputs": {"mask": ["1", 1]}},
              "3": {"class_type": "Loop", "inputs": {"a": ["3", 0], "b": ["2", 0]}}}
    assert metadata.origin(prompt, "2") is None
    assert metadata.origin(prompt, "3") is None and metadata.origin(None, "3") is None
    assert metadata.origin(prompt, "1") == "p.png"


def test_of_several_files_the_one_of_the_first_inputs_is_kept():
    load = {name: {"class_type": "LoadImage", "inputs": {"image": f"{name}.png"}} for name in "ab"}
    match = {"class_type": "Match", "inputs": {"image": ["s", 0], "reference": ["b", 0]}}
    prompt = {**load, "s": {"class_type": "Any", "inputs": {"x": ["a", 0]}}, "m": match,
              "o": {"class_type": "SaveImage", "inputs": {"images": ["m", 0]}}}
    assert metadata.origin(prompt, "o") == "a.png"


@pytest.mark.parametrize("packed", [False, True])
def test_what_turns_a_picture_may_stand_in_a_text(packed):
    words = b'<x:xmpmeta><rdf tiff:Orientation="6"/></x:xmpmeta>'
    text = b"\1\0\0\0" + zlib.compress(words) if packed else b"\0\0\0\0" + words
    frame = read(png_of(SHALLOW[..., :3], 2, 8, chunk(b"iTXt", b"XML:com.adobe.xmp\0" + text)))
    assert np.array_equal(frame.colours, np.rot90(SHALLOW[..., :3], -1) / np.float32(255))


@pytest.mark.parametrize(("beside", "said"), [
    (chunk(b"gAMA", struct.pack(">I", 100000)), "gAMA chunk says 1.000"),
    (chunk(b"gAMA", struct.pack(">I", 45455)), ""),
    (chunk(b"sRGB", b"\0") + chunk(b"gAMA", struct.pack(">I", 100000)), ""),
    (chunk(b"cICP", bytes([9, 16, 0, 1])), "cICP chunk names colours of another kind (9, 16)"),
    (chunk(b"cICP", bytes([1, 13, 0, 1])), ""),
])
def test_colours_that_are_not_heeded_are_named(beside, said, caplog):
    frame = read(png_of(SHALLOW[..., :3], 2, 8, beside))
    assert np.array_equal(frame.colours, SHALLOW[..., :3] / np.float32(255))
    assert said in caplog.text and bool(said) == bool(caplog.records)
