"""Frames out of a video and back into one, through PyAV.

The new video has the old one's timestamps and its sound, packet by packet. Its pictures are H.264
(libx264, CRF 16, BT.709, one thread and no B-frames, so that the same frames give the same file).
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from ..graph import WorkflowError
from .store import put

CODEC, OPTIONS = "libx264", {"crf": "16", "preset": "medium", "bf": "0"}
SAME_BYTES = {"fflags": "+bitexact"}  # no random identifiers, no dates
BT709 = 1
TAGS = ("colorspace", "color_primaries", "color_trc")


class VideoError(ValueError):
    """A video that cannot be read or made; the message is one sentence."""


def pyav() -> Any:
    """PyAV.

    Raises:
        WorkflowError: it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise WorkflowError("videos need PyAV: pip install av, or give pictures "
                            "only.") from error
    return av


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

    @property
    def is_complete(self) -> bool:
        """Whether every frame is there."""
        return self._read and not self._awaited and self.error is None

    def length(self) -> int:
        """The number of frames as the file tells it, 1 where it does not."""
        with _opened(self.source) as (_, stream):
            return stream.frames or 1

    def missing(self) -> Iterator[tuple[int, bytes | None]]:
        """Each frame's number and, where it is still to do, its picture as a PNG."""
        with _opened(self.source) as (container, stream):
            for index, frame in enumerate(container.decode(stream)):
                if self.error is not None:
                    return
                self.count = index + 1
                if self._file(index).exists():
                    yield index, None
                    continue
                self._awaited += 1
                yield index, _png(frame)
        if not self.count:
            raise VideoError(f"{self.source} has no frames.")
        self._read = True

    def keep(self, index: int, picture: bytes) -> None:
        """Take a restored frame. Raises `DiskError`."""
        put(self._file(index), lambda path: path.write_bytes(picture))
        self._awaited -= 1

    def finish(self) -> None:
        """Make the video. Raises `VideoError`, `DiskError`."""
        self._read = False
        put(self.target, lambda path: _encode(self.source, self._file, path, self.target.suffix))

    def clear(self) -> None:
        """Remove the frames."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _file(self, index: int) -> Path:
        return self.folder / f"{index:08}.png"


class _opened:  # noqa: N801 - reads as a verb where it is used
    """A container and its first video stream; PyAV's errors become sentences."""

    def __init__(self, path: Path):
        self.path, self.av = path, pyav()

    def __enter__(self) -> tuple[Any, Any]:
        try:
            self.container = self.av.open(str(self.path))
        except (self.av.FFmpegError, OSError) as error:
            raise self._told(error) from error
        if not self.container.streams.video:
            self.container.close()
            raise VideoError(f"{self.path} has no pictures in it.")
        return self.container, self.container.streams.video[0]

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.container.close()
        full = isinstance(error, OSError) and error.errno == errno.ENOSPC
        if error is not None and isinstance(error, self.av.FFmpegError) and not full:
            raise self._told(error) from error

    def _told(self, error: BaseException) -> VideoError:
        return VideoError(f"cannot read {self.path} as a video: {' '.join(str(error).split())}.")


def _png(frame: Any) -> bytes:
    """A frame, upright."""
    picture = frame.to_image()
    if frame.rotation:
        picture = picture.rotate(frame.rotation, expand=True)
    stream = BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def _encode(source: Path, file: Callable[[int], Path], target: Path, container: str) -> None:
    """Walk through the source once more and put the restored frames in the place of its own."""
    kind = {".mkv": "matroska", ".mov": "mov"}.get(container, "mp4")
    new = pyav().open(str(target), "w", format=kind, options=SAME_BYTES)
    with _opened(source) as (old, stream), new:
        with Image.open(file(0)) as first:  # what made it, as every saved picture carries it
            chunks = {name: json.loads(text) for name, text in first.text.items()}
            new.metadata["comment"] = json.dumps(chunks)
            pictures = _stream(new, stream, first.size)
        sounds = {s.index: new.add_stream_from_template(s) for s in old.streams.audio}
        index = 0
        for packet in old.demux(stream, *old.streams.audio):
            if packet.stream.index in sounds:
                if packet.dts is not None:
                    packet.stream = sounds[packet.stream.index]
                    new.mux(packet)
                continue
            for frame in packet.decode():
                new.mux(pictures.encode(_restored(file(index), frame, pictures)))
                index += 1
        new.mux(pictures.encode(None))


def _stream(new: Any, old: Any, size: tuple[int, int]) -> Any:
    """The stream of pictures, with the old one's clock."""
    stream = new.add_stream(CODEC, rate=old.average_rate, options=OPTIONS)
    stream.width, stream.height = size
    stream.pix_fmt = "yuv444p" if size[0] % 2 or size[1] % 2 else "yuv420p"
    stream.time_base = stream.codec_context.time_base = old.time_base
    stream.codec_context.thread_count = 1
    for tag in TAGS:
        setattr(stream.codec_context, tag, BT709)
    return stream


def _restored(file: Path, old: Any, stream: Any) -> Any:
    """A restored picture as a frame with the old one's time.

    Raises:
        VideoError: the old one has no time, or the picture another size than the first.
    """
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    if old.pts is None:
        raise VideoError(f"frame {file.stem} has no timestamp; convert the video first.")
    if picture.size != (stream.width, stream.height):
        raise VideoError(f"frame {file.stem} became {picture.size} pixels and the first one "
                         f"{(stream.width, stream.height)}; frames of a video need one size.")
    frame = pyav().VideoFrame.from_image(picture)
    frame = frame.reformat(format=stream.pix_fmt, dst_colorspace=BT709)
    frame.pts, frame.time_base = old.pts, old.time_base
    return frame
