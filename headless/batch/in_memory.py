"""Where a worker's pictures are read and saved: nowhere but in memory."""

import threading
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from ..folders import Folders, Place, Source
from ..graph import Node


class Named(BytesIO):
    """The bytes of a file; as text it is the file's name."""

    def __init__(self, name: str, data: bytes):
        super().__init__(data)
        self._name = name

    def __str__(self) -> str:
        return self._name


class FrameSource(Named):
    """A frame of a video, which no picture format holds (see ``frames``)."""


@dataclass
class Collector:
    """Observer of one picture's run: what it saves, and what its nodes show."""

    name: str
    data: bytes
    is_frame: bool = False
    node: str = ""
    saved: dict[str, list[bytes]] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)

    def started(self, node: Node) -> None:
        """Remember who saves next."""
        self.node = node.id

    def finished(self, node: Node, ui: dict[str, list]) -> None:
        """Keep the text."""
        if ui.get("text"):
            self.shown[node.id] = "\n".join(map(str, ui["text"]))


@dataclass
class Memory(Folders):
    """The places of a worker: each thread has the picture it computes, all share ``side``."""

    side: dict[str, bytes] = field(default_factory=dict)
    current: threading.local = field(default_factory=threading.local)

    def find(self, name: str) -> Source:
        """The thread's own picture, or one that all share."""
        picture = getattr(self.current, "picture", None)
        if picture is not None and picture.name == name:
            return (FrameSource if picture.is_frame else Named)(name, picture.data)
        if name in self.side:
            return Named(name, self.side[name])
        raise FileNotFoundError(f"{name!r} was not found")

    def place(self, prefix: str, size: tuple[int, int], preview: bool) -> Place:
        """A place that nothing is ever written to."""
        return Place(Path(), "", "picture", 1, ending=self.ending)

    def write(self, place: Place, index: int, write: Any) -> Path:
        """Keep the picture with the thread's own."""
        stream: IO[bytes] = BytesIO()
        write(stream)
        stream.seek(0)
        self.keep(stream.read())
        return place.folder

    def keep(self, data: bytes) -> None:
        """Keep what a saving node made with the thread's own picture."""
        picture: Collector = self.current.picture
        picture.saved.setdefault(picture.node, []).append(data)
