"""The file around a video's pictures: sound, subtitles, chapters, titles, what cannot be kept."""

from contextlib import suppress
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

from ..graph import WorkflowError

OLDEST = 17  # of PyAV
FORMATS = {".mkv": "matroska", ".mov": "mov", ".mp4": "mp4"}
SAME_BYTES = {"fflags": "+bitexact"}  # no random identifiers, no dates
OWN_KEYS = {"movflags": "use_metadata_tags"}  # MP4 and MOV then keep every key, for FFmpeg to read
KEYS = {  # what they keep in the places that every player looks at
    "mp4": {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre",
            "copyright", "grouping", "lyrics", "description", "synopsis", "show", "episode_id",
            "network", "keywords", "creation_time"},
    "mov": {"title", "artist", "album", "date", "comment", "genre", "copyright", "creation_time"},
}
OF_THE_FILE = {"major_brand", "minor_version", "compatible_brands", "encoder"}
OF_THE_CODING = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS", "ENCODER", "VENDOR_ID")
ANY_BYTES = "surrogateescape"  # old files have titles in old encodings
PLACES = ("comment", "description", "synopsis", "undegrade")  # for the workflow, the first free one


def pyav() -> Any:
    """PyAV.

    Raises:
        WorkflowError: it is not installed, or too old.
    """
    try:
        import av
    except ImportError as error:
        raise WorkflowError("videos need PyAV: pip install av, or give pictures "
                            "only.") from error
    if int(av.__version__.split(".")[0]) < OLDEST:
        raise WorkflowError(f"videos need PyAV {OLDEST} or newer, and {av.__version__} is "
                            "installed: pip install -U av.")
    return av


def reader(path: Path) -> Any:
    """A container to read."""
    return pyav().open(str(path), metadata_errors=ANY_BYTES)


def writer(path: Any, suffix: str, old: Any, workflow: str) -> Any:
    """A new container with the old one's titles and chapters, and the workflow."""
    kind, tags = FORMATS[suffix], titles(old)
    taken = {key.lower() for key in tags}
    tags[next(place for place in PLACES if place not in taken)] = workflow
    shared = kind not in KEYS or {key.lower() for key in tags} <= KEYS[kind]
    new = pyav().open(path, "w", format=kind, options=SAME_BYTES | ({} if shared else OWN_KEYS),
                      metadata_errors=ANY_BYTES)
    new.metadata.update(tags)
    new.set_chapters(old.chapters())
    return new


def titles(old: Any) -> dict[str, str]:
    """What a container says of its contents, but not of itself."""
    return {key: text for key, text in old.metadata.items() if key.lower() not in OF_THE_FILE}


def labels(stream: Any) -> dict[str, str]:
    """What is said of a stream; MP4 and MOV are read with a name where a title is written."""
    return {"title" if key == "name" else key: text for key, text in stream.metadata.items()}


def describe(new: Any, old: Any) -> None:
    """Give a stream of new pictures what the old one says of them."""
    new.metadata.update({key: text for key, text in labels(old).items()
                         if not key.upper().startswith(OF_THE_CODING)})
    new.disposition = old.disposition


def copy(new: Any, stream: Any) -> Any:
    """A stream for the packets of an old one; Matroska keeps covers as attachments.

    Raises:
        ValueError, FFmpegError: the container does not take it.
    """
    if is_cover(stream) and new.format.name == FORMATS[".mkv"]:
        with reader(stream.container.name) as again:
            data = bytes(next(again.demux(again.streams[stream.index])))
        return new.add_attachment(stream.metadata.get("filename", "cover"),
                                  stream.metadata.get("mimetype", "image/jpeg"), data)
    twin = new.add_stream_from_template(stream, True)
    twin.metadata.update(labels(stream))
    twin.disposition = stream.disposition
    return twin


def others(old: Any, pictures: Any, suffix: str) -> tuple[list[Any], list[Any]]:
    """The streams beside the pictures: what the new container takes and what it does not."""
    kept, lost = [], []
    for stream in old.streams:
        if stream.index != pictures.index and not _is_made_anew(old, stream):
            (kept if _is_taken(stream, FORMATS[suffix]) else lost).append(stream)
    return kept, lost


def is_cover(stream: Any) -> bool:
    """Whether a stream of pictures is one picture that stands for the whole."""
    return bool(stream.disposition & pyav().stream.Disposition.attached_pic)


def told(stream: Any) -> str:
    """A stream by number, type and codec."""
    name = labels(stream).get("title") or stream.metadata.get("filename")
    codec = getattr(stream.codec_context, "name", None) or getattr(stream, "name", None)
    return (f"{stream.type} stream {stream.index}"
            f"{f' ({codec})' if codec else ''}{f' {name!r}' if name else ''}")


def _is_taken(stream: Any, kind: str) -> bool:
    """Ask the muxer itself."""
    new = pyav().open(BytesIO(), "w", format=kind, metadata_errors=ANY_BYTES)
    try:
        copy(new, stream)
        try_out(new)
    except (ValueError, pyav().FFmpegError):
        return False
    return True


def try_out(new: Any) -> None:
    """Begin a file of which nothing is to become. Raises FFmpegError where it cannot begin."""
    try:
        new.start_encoding()
    finally:
        with suppress(pyav().FFmpegError):
            new.close()


def _is_made_anew(old: Any, stream: Any) -> bool:
    """Whether a stream only holds chapters, or a time code that the pictures' stream tells, too."""
    codes = {s.metadata.get("timecode") for s in old.streams.video} - {None}
    return stream.type == "data" and (stream.metadata.get("timecode") in codes or (
        bool(old.chapters()) and stream.name == "bin_data"))


def pixel_shape(stream: Any, is_turned: bool) -> Fraction | None:
    """Width over height of an upright pixel, None where it is not told."""
    shape = stream.sample_aspect_ratio
    return 1 / shape if shape and is_turned else shape
