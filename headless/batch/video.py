"""Frames out of a video and back into one, through PyAV.

The new video has the old one's timestamps, shape of pixels and colour tags; its other streams are
copied packet by packet. Its pictures stand upright and are H.264 (libx264, CRF 16, one thread and
no B-frames, so that the same frames give the same file) with the old one's chroma and 8 or 10 bits.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from .coding import Coding, VideoError, filled, orientation, pixels
from .frames import packed
from .muxing import (
    copy,
    describe,
    is_cover,
    others,
    pixel_shape,
    pyav,
    reader,
    told,
    try_out,
    writer,
)
from .store import put

CODEC, OPTIONS = "libx264", {"crf": "16", "preset": "medium", "bf": "0"}


class Film:
    """One video under way: restored frames wait in a folder until all are there.

    The folder survives a kill; the digest in its name keeps the frames of another job out.

    Attributes:
        error: why it cannot be finished, or None.
        count: its frames, as far as they have been read.
        seconds: spent on its frames.
    """

    def __init__(self, source: Path, target: Path, digest: str):
        """Nothing is read or made yet."""
        self.source, self.target = source, target
        name = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
        self.folder = target.with_name(f".{name}.{digest[:8]}.frames")  # however long the name is
        self.error: str | None = None
        self.seconds, self.count = 0.0, 0
        self._read, self._awaited = False, 0
        self._coding: Coding | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every frame is there."""
        return self._read and not self._awaited and self.error is None

    def length(self) -> int:
        """The number of frames as the file tells it, 1 where it does not."""
        with _opened(self.source) as (_, stream):
            return stream.frames or 1

    def losses(self) -> list[str]:
        """What the new video will not keep, each in a sentence.

        Raises:
            VideoError: no new video can show what the old one does.
        """
        with _opened(self.source) as (container, stream):
            found = [f"its {told(other)} cannot be kept in {self.target.suffix}."
                     for other in others(container, stream, self.target.suffix)[1]]
            for frame in container.decode(stream):
                size = frame.width, frame.height
                coding = self._check(0, frame).fitting(*size)
                try:
                    new = writer(BytesIO(), self.target.suffix, container, "{}")
                    _streams(new, container, stream, self.target.suffix, size, coding, frame)
                    try_out(new)
                except (ValueError, pyav().FFmpegError) as error:
                    raise VideoError(f"cannot make a new video of {self.source}: "
                                     f"{' '.join(str(error).split())}.") from error
                return found + _changes(frame, stream)
        raise VideoError(f"{self.source} has no frames.")

    def missing(self) -> Iterator[tuple[int, bytes | None]]:
        """Each frame's number and, where it is still to do, its pixels as ``frames`` packs them."""
        with _opened(self.source) as (container, stream):
            for index, frame in enumerate(container.decode(stream)):
                if self.error is not None:
                    return
                coding = self._check(index, frame)
                self._coding = self._coding or coding
                self.count = index + 1
                if self._file(index).exists():
                    yield index, None
                    continue
                self._awaited += 1
                yield index, packed({"pixels": pixels(frame)})
        if not self.count:
            raise VideoError(f"{self.source} has no frames.")
        self._read = True

    def _check(self, index: int, frame: Any) -> Coding:
        try:
            if frame.pts is None:
                raise VideoError("it has no timestamp; convert the video first.")
            orientation(frame)
            return Coding.of(frame)
        except VideoError as error:
            raise VideoError(f"cannot make a new video of {self.source}, frame {index}: "
                             f"{error}") from error

    def keep(self, index: int, picture: bytes) -> None:
        """Take a restored frame, packed as it came. Raises `DiskError`."""
        assert self._coding is not None
        with np.load(BytesIO(picture)) as arrays:
            restored, text = arrays["pixels"], arrays["text"]
        planes = self._coding.fitting(*restored.shape[1::-1]).planes(restored)
        data = packed({**dict(zip("yuv", planes, strict=True)), "text": text}, squeeze=True)
        put(self._file(index), lambda path: path.write_bytes(data))
        self._awaited -= 1

    def finish(self) -> None:
        """Make the video. Raises `VideoError`, `DiskError`."""
        self._read = False
        put(self.target, lambda path: _encode(self.source, self._file, path, self.target.suffix))

    def clear(self) -> None:
        """Remove the frames."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:08}.npz"


class _opened:  # noqa: N801 - reads as a verb where it is used
    """A container and its first stream of moving pictures; PyAV's errors become sentences."""

    def __init__(self, path: Path, cannot: str = "cannot read {} as a video"):
        self.path, self.av, self.cannot = path, pyav(), cannot

    def __enter__(self) -> tuple[Any, Any]:
        try:
            self.container = reader(self.path)
        except (self.av.FFmpegError, OSError) as error:
            raise self._told(error) from error
        for stream in self.container.streams.video:
            if not is_cover(stream):
                if stream.codec_context is not None:
                    return self.container, stream
                break
        self.container.close()
        raise VideoError(f"{self.path} has no moving pictures in it that can be read.")

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.container.close()
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if error is not None and isinstance(error, self.av.FFmpegError) and not full:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> VideoError:
        return VideoError(f"{self.cannot.format(self.path)}: {' '.join(str(error).split())}.")


def _changes(frame: Any, stream: Any) -> list[str]:
    """What will differ from a first frame, each in a sentence."""
    marks, parts = {data.type.name for data in frame.side_data}, frame.format.components
    what = {
        "it is interlaced and restored as its lines are woven; better deinterlace it first.":
            frame.interlaced_frame,
        "its transparency is not kept.":
            any(p.is_alpha for p in parts) or stream.metadata.get("alpha_mode") == "1",
        f"its {parts[0].bits} bits become 10.": parts[0].bits > 10,
        "its colour profile is not kept.": "ICC_PROFILE" in marks,
        "the new one is not marked as a view all around.": "SPHERICAL" in marks,
    }
    return [text for text, is_so in what.items() if is_so]


def _encode(source: Path, file: Callable[[int], Path], target: Path, suffix: str) -> None:
    """Walk through the source once more and put the restored frames in the place of its own."""
    with np.load(file(0)) as arrays:
        size, text = arrays["y"].shape[::-1], str(arrays["text"])
    with _opened(source) as (old, stream):
        first = next(old.decode(stream))
    coding = Coding.of(first).fitting(*size)
    with _opened(source, "cannot make a new video of {}") as (old, stream), \
            writer(str(target), suffix, old, text) as new:
        twins = _streams(new, old, stream, suffix, size, coding, first)
        index, pictures = 0, twins[stream.index]
        for packet in old.demux([s for s in old.streams if s.index in twins
                                 and twins[s.index].type != "attachment"]):
            if packet.stream.index != stream.index:
                if packet.size:  # the last of each stream is empty and says so
                    if is_cover(packet.stream):
                        packet.pts = packet.dts = 0
                    packet.stream = twins[packet.stream.index]
                    new.mux(packet)
                continue
            for frame in packet.decode():
                new.mux(pictures.encode(_restored(file(index), frame, size, coding)))
                index += 1
        new.mux(pictures.encode(None))


def _streams(new: Any, old: Any, pictures: Any, suffix: str, size: tuple[int, int],
             coding: Coding, first: Any) -> dict[int, Any]:
    """The streams of a new file by the numbers of those that they come from."""
    kept = {stream.index for stream in others(old, pictures, suffix)[0]}
    return {stream.index: copy(new, stream) if stream.index in kept
            else _pictures(new, stream, size, coding, first)
            for stream in old.streams if stream.index in kept or stream.index == pictures.index}


def _pictures(new: Any, old: Any, size: tuple[int, int], coding: Coding, first: Any) -> Any:
    """The stream of pictures, with the old one's clock, pixels and colours."""
    stream = new.add_stream(CODEC, rate=old.average_rate, options=OPTIONS)
    describe(stream, old)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = *size, coding.form
    stream.time_base = context.time_base = old.time_base
    context.sample_aspect_ratio = pixel_shape(old, orientation(first)[0]) or 0
    context.color_range = 2 if coding.is_full else 1
    context.colorspace, context.color_primaries = coding.matrix, coding.primaries
    context.color_trc = coding.transfer
    context.thread_count = 1
    flags = pyav().codec.context.Flags
    context.flags |= flags.frame_duration | (flags.interlaced_dct if coding.is_woven else 0)
    return stream


def _restored(file: Path, old: Any, size: tuple[int, int], coding: Coding) -> Any:
    """A restored picture as a frame with the old one's time.

    Raises:
        VideoError: the picture has another size than the first.
    """
    with np.load(file) as arrays:
        planes = [arrays[name] for name in "yuv"]
    if (found := planes[0].shape[::-1]) != size:
        raise VideoError(f"frame {file.stem} became {found} pixels and the first one {size}; "
                         "frames of a video need one size.")
    return filled(old, planes, coding)
