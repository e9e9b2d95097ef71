"""The pictures of a video as pixels and back: upright, 16 bits deep, in the video's own colours.

What comes back unchanged goes out in the planes it came from: chroma is spread such that the mean
of what became of a sample is the sample, and averaged again. The numbers of colour tags are those
of ITU-T H.273.
"""

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHITE = 65535  # of a pixel; 16 bits
UNKNOWN = 2  # the tag of what is not told
MATRICES = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
            7: (0.212, 0.087), 9: (0.2627, 0.0593)}  # tag -> weights of red and blue in luma
SD_HEIGHT, SD, HD = 576, 6, 1  # players take untagged pictures up to this height for BT.601
STRANGE = {8: "linear light", 9: "a logarithmic scale", 10: "a logarithmic scale",
           16: "PQ (HDR)", 17: "SMPTE 428 (cinema)", 18: "HLG (HDR)"}  # transfer tags
PLANAR = re.compile(r"yuvj?(420|422|444)p(\d+le)?|gray(\d+le)?")
SUBSAMPLED = {(1, 1): "420", (1, 0): "422", (0, 0): "444", (2, 0): "422", (2, 2): "420",
              (0, 1): "444"}  # halvings across and down -> the layout that takes it whole
TO_SDR = "convert it to BT.709 first (ffmpeg's zscale and tonemap filters do)"


class VideoError(ValueError):
    """A video that cannot be read or made; the message is one sentence."""


@dataclass(frozen=True)
class Coding:
    """How pictures are coded as luma and chroma.

    matrix, primaries, transfer: tags. is_full: whether black is 0, not 16 of 255. layout: 420, 422
    or 444. depth: bits of a sample, 8 or 10. is_woven: whether two fields make a frame.
    """

    matrix: int
    primaries: int
    transfer: int
    is_full: bool
    layout: str
    depth: int
    is_woven: bool

    @classmethod
    def of(cls, frame: Any) -> "Coding":
        """A decoded frame's coding; RGB becomes BT.709 of 10 bits, which loses none of 8.

        Raises:
            VideoError: the colours are none that a picture of standard range has.
        """
        kind, matrix = frame.format, frame.colorspace
        if frame.color_trc in STRANGE:
            raise VideoError(f"its colours are in {STRANGE[frame.color_trc]}, and pictures here "
                             f"are of standard range; {TO_SDR}.")
        if any(data.type.name.startswith("DOVI") for data in frame.side_data):
            raise VideoError("it is a Dolby Vision video, and pictures here are of standard "
                             f"range; {TO_SDR}.")
        if _is_rgb(kind):
            return cls(HD, frame.color_primaries, frame.color_trc, False, "444", 10,
                       frame.interlaced_frame)
        if matrix == UNKNOWN:
            matrix = SD if frame.height <= SD_HEIGHT else HD
        if matrix not in MATRICES:
            raise VideoError(f"its colours are coded by matrix {matrix} of ITU-T H.273, which is "
                             f"not known here; {TO_SDR}.")
        layout = SUBSAMPLED.get(_halvings(kind), "444") if len(kind.components) > 2 else "420"
        is_full = frame.color_range == 2 or (frame.color_range == 0 and (
            kind.name.startswith(("yuvj", "gray", "ya"))))
        return cls(matrix, frame.color_primaries, frame.color_trc, is_full,
                   layout, 10 if kind.components[0].bits > 8 else 8, frame.interlaced_frame)

    def fitting(self, width: int, height: int) -> "Coding":
        """This coding where the sides can be halved as it asks for, else with all the chroma."""
        is_woven = self.is_woven and not height % 2
        odd = (self.layout != "444" and width % 2) or (
            self.layout == "420" and height % (4 if is_woven else 2))
        return replace(self, layout="444" if odd else self.layout, is_woven=is_woven)

    @property
    def form(self) -> str:
        """FFmpeg's name of it."""
        return f"yuv{self.layout}p{'10le' if self.depth == 10 else ''}"

    def planes(self, pixels: NDArray) -> list[NDArray]:
        """Pixels (H, W, 3) -> luma and two planes of chroma."""
        red, green, blue = np.moveaxis(pixels.astype(np.float32) / WHITE, -1, 0)
        of_red, of_blue = MATRICES[self.matrix]
        luma = of_red * red + (1 - of_red - of_blue) * green + of_blue * blue
        chroma = [(blue - luma) / (2 - 2 * of_blue), (red - luma) / (2 - 2 * of_red)]
        if self.layout != "444":
            chroma = [(c[:, ::2] + c[:, 1::2]) / 2 for c in chroma]
        if self.layout == "420":
            chroma = [(c[::2] + c[1::2]) / 2 for c in chroma]
        levels = _levels(self.depth, self.is_full)
        kind = np.uint8 if self.depth == 8 else np.uint16
        return [np.rint(plane * span + zero).clip(0, 2**self.depth - 1).astype(kind)
                for plane, (zero, span) in zip([luma, *chroma], levels, strict=True)]


def pixels(frame: Any) -> NDArray:
    """A decoded frame, upright, as it is to be shown: (H, W, 3) of 16 bits.

    Raises:
        VideoError: it is turned by another angle than the quarters, or see :meth:`Coding.of`.
    """
    coding, (height, width) = Coding.of(frame), (frame.height, frame.width)
    if _is_rgb(frame.format):
        deep = frame.reformat(format="rgb48le", interpolation="POINT").to_ndarray()
        return _upright(deep, orientation(frame))
    planes, depth = _planes(frame, coding)
    levels = _levels(depth, coding.is_full)
    luma, *chroma = [(plane.astype(np.float32) - zero) / span
                     for plane, (zero, span) in zip(planes, levels, strict=False)]
    blue_ness, red_ness = ([_spread(c, (height, width)) for c in chroma]
                           or [np.zeros_like(luma)] * 2)
    of_red, of_blue = MATRICES[coding.matrix]
    red = luma + (2 - 2 * of_red) * red_ness
    blue = luma + (2 - 2 * of_blue) * blue_ness
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    picture = np.rint(np.stack([red, green, blue], -1) * WHITE).clip(0, WHITE)
    return _upright(picture.astype(np.uint16), orientation(frame))


def filled(old: Any, planes: list[NDArray], coding: Coding) -> Any:
    """A frame of these planes that has everything else, time and captions too, of the old one."""
    height, width = planes[0].shape
    frame = old.reformat(width, height, coding.form, interpolation="POINT")
    frame.make_writable()
    frame.pict_type = 0  # for the encoder to choose
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        rows[:len(values), :values.shape[1] * values.itemsize] = values.view(np.uint8)
    return frame


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """How a frame is to be shown: rows for columns, then mirrored up-down, then left-right.

    Raises:
        VideoError: turned or slanted otherwise.
    """
    for data in frame.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("9i", bytes(data))
            size = 0.01 * max(map(abs, (a, b, c, d)))
            if min(abs(a), abs(d)) > size >= max(abs(b), abs(c)):
                return False, d < 0, a < 0
            if min(abs(b), abs(c)) > size >= max(abs(a), abs(d)):
                return True, b < 0, c < 0
            raise VideoError("it is shown turned by an angle that is no multiple of 90 degrees; "
                             "turn it upright first.")
    return False, False, False


def _upright(picture: NDArray, turns: tuple[bool, bool, bool]) -> NDArray:
    swap, updown, leftright = turns
    picture = picture.swapaxes(0, 1) if swap else picture
    picture = picture[::-1] if updown else picture
    return np.ascontiguousarray(picture[:, ::-1] if leftright else picture)


def _is_rgb(kind: Any) -> bool:
    return kind.is_rgb or kind.has_palette


def _halvings(kind: Any) -> tuple[int, int]:
    """How often chroma is halved across and down."""
    return (64 // (kind.chroma_width(64) or 64)).bit_length() - 1, (
        64 // (kind.chroma_height(64) or 64)).bit_length() - 1


def _levels(depth: int, is_full: bool) -> list[tuple[int, int]]:
    """Of luma and twice of chroma: the sample that means 0, and how many make 1."""
    if is_full:
        chroma = (1 << (depth - 1), (1 << depth) - 1)
        return [(0, (1 << depth) - 1), chroma, chroma]
    chroma = (128 << (depth - 8), 224 << (depth - 8))
    return [(16 << (depth - 8), 219 << (depth - 8)), chroma, chroma]


def _planes(frame: Any, coding: Coding) -> tuple[list[NDArray], int]:
    """Luma and chroma as they were decoded, and their depth; odd layouts are unpacked first."""
    depth = frame.format.components[0].bits
    if not PLANAR.fullmatch(frame.format.name):
        is_grey, deep = len(frame.format.components) < 3, f"{depth}le" if depth > 8 else ""
        form = f"gray{deep}" if is_grey else f"yuv{coding.layout}p{deep}"
        levels = 2 if coding.is_full else 1
        frame = frame.reformat(format=form, src_color_range=levels, dst_color_range=levels)
    kind, found = np.uint8 if depth == 8 else np.dtype("<u2"), []
    for plane in frame.planes:
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).view(kind)
        found.append(rows[:plane.height, :plane.width])
    return found, depth


def _spread(chroma: NDArray, shape: tuple[int, int]) -> NDArray:
    """Chroma to the size of luma, linear within each sample's place and of its mean."""
    for axis in (0, 1):
        if chroma.shape[axis] < shape[axis]:
            around = np.pad(chroma, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], "edge")
            after, before = np.split(around, [2], axis)[1], np.split(around, [-2], axis)[0]
            slope = (after - before) / 8
            both = np.stack([chroma - slope, chroma + slope], axis + 1)
            chroma = both.reshape([-1 if a == axis else n for a, n in enumerate(chroma.shape)])
    return chroma[:shape[0], :shape[1]]
