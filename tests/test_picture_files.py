"""Picture files of every kind: what they show reaches IMAGE and MASK, what describes them stays."""

import io
import struct
import zlib
from fractions import Fraction

import av
import numpy as np
import pytest
import tifffile
from drawn_files import DEEP, RANDOM, SHALLOW, H, W, chunk, file_of, png_of, read, tiff_of
from PIL import Image, ImageCms, ImageOps

from undegrade.headless.stock import tiffs
from undegrade.headless.stock.reading import read_frames


def shows(frame, colours, alpha=None):
    """Whether a frame holds these values, nearest float32 by nearest float32."""
    wide = np.broadcast_to(colours, (H, W, 3)).astype(np.float32)
    assert frame.colours.dtype == np.float32 and np.array_equal(frame.colours, wide)
    if alpha is None:
        assert frame.alpha is None
    else:
        assert np.array_equal(frame.alpha, alpha.astype(np.float32))


# Depth


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_png_of_16_bits(colour, channels):
    pixels, values = DEEP[..., :channels], DEEP[..., :channels] / 65535
    frame = read(png_of(pixels, colour, 16))
    opaque = channels in (1, 3)
    shows(frame, values[..., :1 if channels < 3 else 3], None if opaque else values[..., -1])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_of_16_bits(channels, compression, order):
    pixels, values = DEEP[..., :channels], DEEP[..., :channels] / 65535
    data = tiff_of(pixels[..., 0] if channels == 1 else pixels, byteorder=order,
                   photometric="minisblack" if channels == 1 else "rgb", compression=compression,
                   extrasamples=["unassalpha"] if channels == 4 else None)
    shows(read(data), values[..., :3], values[..., 3] if channels == 4 else None)


@pytest.mark.parametrize("compression", ["raw", "packbits", "lzw", "deflate"])
@pytest.mark.parametrize(("kind", "channels"), [("gray16le", 1), ("rgb48le", 3), ("rgba64le", 4)])
def test_tiff_of_16_bits_as_another_program_packs_it(kind, channels, compression):
    encoder = av.CodecContext.create("tiff", "w")
    encoder.width, encoder.height, encoder.pix_fmt = W, H, kind
    encoder.time_base, encoder.options = Fraction(1), {"compression_algo": compression}
    pixels = DEEP[..., 0] if channels == 1 else np.ascontiguousarray(DEEP[..., :channels])
    frame = av.VideoFrame.from_ndarray(pixels, kind)
    data = b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
    values = DEEP[..., :channels] / 65535
    shows(read(data), values[..., :3], values[..., 3] if channels == 4 else None)


def test_every_level_of_16_bits_is_read():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    three = np.stack([every, every[::-1], every.T], -1)
    for data in (png_of(three, 2, 16), tiff_of(three, photometric="rgb")):
        (frame,) = read_frames(io.BytesIO(data))
        assert np.array_equal(frame.colours, three.astype(np.float32) / 65535)


GREY = np.linspace(0, 1, H * W).reshape(H, W)
KINDS = {  # what a TIFF holds -> pixels and what they show
    "float": (GREY.astype(np.float32), GREY.astype(np.float32)),
    "double": (GREY, GREY),
    "half": (GREY.astype(np.float16), GREY.astype(np.float16)),
    "float levels": (SHALLOW[..., 0].astype(np.float32), SHALLOW[..., 0] / 255),
    "float deep levels": (DEEP[..., 0].astype(np.float32), DEEP[..., 0] / 65535),
    "int32": (DEEP[..., 0].astype(np.int32), DEEP[..., 0] / 65535),
    "uint32": (DEEP[..., 0].astype(np.uint32) * 65537, DEEP[..., 0] / 65535),
    "int16": (DEEP[..., 0].astype(np.int32) - 32768, DEEP[..., 0] / 65535),
    "int8": (SHALLOW[..., 0].astype(np.int16) - 128, SHALLOW[..., 0] / 255),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("white", [False, True])
def test_tiffs_of_other_numbers(kind, white):
    pixels, shown = KINDS[kind]
    pixels = pixels.astype({"int16": np.int16, "int8": np.int8}.get(kind, pixels.dtype))
    data = tiff_of(pixels, photometric="miniswhite" if white else "minisblack")
    assert read(data).deep == (kind != "int8")
    shows(read(data), (1 - shown.astype(float) if white else shown)[..., None])


@pytest.mark.parametrize("pixels", [
    np.array([[0.0, 1.7]], np.float32), np.array([[-0.1, 0.5]], np.float32),
    np.array([[0, 70000]], np.int32), np.array([[-5, 3]], np.int32),
    np.array([[0, 70000]], np.uint32), np.array([[0, np.nan]], np.float32)])
def test_a_range_that_cannot_be_told_is_refused(pixels):
    with pytest.raises(ValueError, match=r"cannot be told|NaN or infinite"):
        read(tiff_of(pixels, photometric="minisblack"))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_white_may_be_zero(dtype):
    most = np.iinfo(dtype).max
    pixels = RANDOM.integers(0, most + 1, (H, W)).astype(dtype)
    shows(read(tiff_of(pixels, photometric="miniswhite")), 1 - (pixels / most)[..., None])


def test_colours_of_floats_separate_planes_and_alpha_that_was_multiplied():
    colours = RANDOM.random((H, W, 3)).astype(np.float32)
    shows(read(tiff_of(colours, photometric="rgb")), colours)
    planes = np.moveaxis(DEEP[..., :3], -1, 0)
    data = tiff_of(planes, photometric="rgb", planarconfig="separate")
    shows(read(data), DEEP[..., :3] / 65535)
    alpha = RANDOM.random((H, W, 1)).astype(np.float32) * 0.9 + 0.1
    data = tiff_of(np.concatenate([colours * alpha, alpha], -1), photometric="rgb",
                   extrasamples=["assocalpha"])
    frame = read(data)
    assert abs(frame.colours - colours).max() < 1e-6
    assert np.array_equal(frame.alpha, alpha[..., 0])
    data = tiff_of(DEEP[..., :2], photometric="minisblack", extrasamples=["unassalpha"])
    shows(read(data), DEEP[..., :1] / 65535, DEEP[..., 1] / 65535)


def test_without_tifffile_it_is_said(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tifffile", None)
    with pytest.raises(ValueError, match="pip install tifffile"):
        tiffs.read(b"")


# Modes


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey(depth):
    most = 2**depth - 1
    levels = RANDOM.integers(0, most + 1, (H, 24))
    pixels, hidden = levels, most // 2
    if depth < 8:  # packed
        bits = ((levels[..., None] >> np.arange(depth - 1, -1, -1)) & 1).reshape(H, -1)
        packed = np.packbits(bits, 1)
        lines = b"".join(b"\0" + row.tobytes() for row in packed)
        head = struct.pack(">IIBBBBB", 24, H, depth, 0, 0, 0, 0)
        data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
                + chunk(b"tRNS", struct.pack(">H", hidden))
                + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b""))
    else:
        data = png_of(pixels[..., None], 0, depth, chunk(b"tRNS", struct.pack(">H", hidden)))
    frame = read(data)
    assert np.array_equal(frame.alpha, (levels != hidden).astype(np.float32))
    assert np.array_equal(frame.colours[..., 1], (levels / most).astype(np.float32))


@pytest.mark.parametrize("depth", [8, 16])
def test_transparent_colour(depth):
    pixels = (DEEP if depth == 16 else SHALLOW)[..., :3].copy()
    pixels[4, 5] = pixels[0, 0]
    pixels[6, 7] = (*pixels[0, 0, :2], pixels[0, 0, 2] ^ 1)  # differs in the last bit
    hidden = chunk(b"tRNS", struct.pack(">3H", *pixels[0, 0].tolist()))
    alpha = np.ones((H, W))
    alpha[0, 0] = alpha[4, 5] = 0
    shows(read(png_of(pixels, 2, depth, hidden)), pixels / (2**depth - 1), alpha)


def test_lab_is_read_as_littlecms_writes_it():
    ramp = np.stack(np.meshgrid(np.arange(0, 256, 15), np.arange(0, 256, 15)), -1)
    rgb = np.concatenate([ramp, 255 - ramp[..., :1]], -1).astype(np.uint8)
    lab = ImageCms.profileToProfile(Image.fromarray(rgb), ImageCms.createProfile("sRGB"),
                                    ImageCms.createProfile("LAB"), outputMode="LAB")
    frame = read(file_of(lab, "TIFF"))
    assert frame.alpha is None
    off = abs(255 * frame.colours - rgb)  # 8 bits of Lab are coarse where it is dark
    assert np.median(off) <= 2 and np.quantile(off, 0.9) <= 5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "deep png", "tiff", "deep tiff", "float tiff", "jpeg"])
def test_every_orientation_at_every_depth(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    tag = [(274, "H", 1, orientation, True)]
    shallow = Image.fromarray(SHALLOW[..., :3])
    data = {
        "png": lambda: file_of(shallow, "PNG", exif=exif),
        "jpeg": lambda: file_of(shallow, "JPEG", exif=exif, quality=100, subsampling=0),
        "deep png": lambda: png_of(DEEP[..., :3], 2, 16, chunk(b"eXIf", exif.tobytes()[6:])),
        "tiff": lambda: tiff_of(SHALLOW[..., :3], photometric="rgb", extratags=tag),
        "deep tiff": lambda: tiff_of(DEEP[..., :3], photometric="rgb", extratags=tag),
        "float tiff": lambda: tiff_of(np.float32(DEEP[..., :3] / 65535), photometric="rgb",
                                      extratags=tag),
    }[kind]()
    pixels = (DEEP >> 8).astype(np.uint8) if "deep" in kind or "float" in kind else SHALLOW
    flat = Image.fromarray(pixels[..., :3])
    expected = np.asarray(ImageOps.exif_transpose(
        Image.open(io.BytesIO(file_of(flat, "PNG", exif=exif)))))
    off = abs(read(data).colours * 255 - expected).max()
    assert off < (1 if "deep" in kind or "float" in kind else 60 if kind == "jpeg" else 1e-4)


def test_pages_are_a_batch_and_what_is_left_out_is_said(call, tmp_path, caplog):
    pages = [Image.fromarray(SHALLOW[..., i]) for i in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    image, _ = call("LoadImage", image="p.tif")
    assert np.array_equal(image[..., 0], np.moveaxis(SHALLOW[..., :3] / np.float32(255), 2, 0))
    assert not caplog.records
    pages[0].save(tmp_path / "odd.tif", save_all=True, append_images=[pages[1].crop((0, 0, 5, 5))])
    assert len(call("LoadImage", image="odd.tif")[0]) == 1
    assert "1 of its 2 pictures left out" in caplog.text
    with tifffile.TiffWriter(tmp_path / "deep.tif") as file:
        for i in range(2):
            file.write(DEEP[..., i:i + 3], photometric="rgb")
        file.write(DEEP[::2, ::2, :3], photometric="rgb", subfiletype=1)
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as file:
        file.write(SHALLOW[..., :3], photometric="rgb")
        file.write((DEEP[..., :3].astype(int) - 32768).astype(np.int16), photometric="rgb")
    assert np.array_equal(read_frames(tmp_path / "mixed.tif")[1].colours,
                          (DEEP[..., :3] / 65535).astype(np.float32))
    frames = read_frames(tmp_path / "deep.tif")
    assert len(frames) == 2
    shows(frames[1], DEEP[..., 1:4] / 65535)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_truncated_tiffs_are_refused(dtype, compression):
    pixels = (RANDOM.random((64, 64, 3)) * (1 if dtype == np.float32 else 255)).astype(dtype)
    data = tiff_of(pixels, photometric="rgb", compression=compression)
    assert read(data).size == (64, 64)
    for kept in (len(data) // 2, len(data) - 700, 40, 9):
        with pytest.raises(ValueError, match=r"cannot read .* as a picture"):
            read(data[:kept])
