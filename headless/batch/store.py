"""Files that are there whole or not at all, and the manifest."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..folders import part_of
from ..graph import WorkflowError

MANIFEST = "manifest.jsonl"
OWNER = "batch"  # how the names of part files begin


class DiskError(RuntimeError):
    """The output folder takes no more; the message is one sentence."""


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}; make room and run the "
                        "same command again, it goes on where it stopped.") from error


def put(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file under a temporary name, then give it its own.

    Raises:
        DiskError: it cannot be written; nothing is left of it.
    """
    with _telling(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_of(path, OWNER) as part:
            write(part)
            with part.open("rb") as stream:
                os.fsync(stream.fileno())
            part.replace(path)


def sweep(folders: Iterable[Path]) -> None:
    """Remove what a killed batch left under temporary names."""
    for folder in folders:
        for part in folder.glob(f".{OWNER}-*.part"):
            part.unlink(missing_ok=True)


class Manifest:
    """The record of an output folder: JSON lines, only ever appended to."""

    def __init__(self, folder: Path, digest: str):
        """Remember the place and the job's digest; nothing is read or made."""
        self.path, self.digest = folder / MANIFEST, digest

    def finished(self) -> dict[str, dict[str, Any]]:
        """Input name -> its line, for every input that this job finished with all its files there.

        A line that was cut off by a kill counts as not written.

        Raises:
            WorkflowError: results of another job are in the folder.
        """
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            if line.get("error") is None and line.get("job") != self.digest:
                raise WorkflowError(
                    f"{self.path} tells of results with another workflow, seed or settings; "
                    "choose another --output.")
            found[line["input"]] = line
        folder = self.path.parent
        return {name: line for name, line in found.items() if line.get("error") is None
                and all((folder / file).is_file() for file in line["output"])}

    def begin(self, planned: Iterable[str]) -> None:
        """Make the file, or end a line that was cut off.

        Raises:
            WorkflowError: there is no manifest, but a file of a planned name.
            DiskError: it cannot be written.
        """
        if not self.path.exists():
            for name in planned:
                if (path := self.path.parent / name).exists():
                    raise WorkflowError(f"{path} is there already, and no {MANIFEST} that tells of "
                                        "it; choose another --output.")
        with _telling(self.path), self.path.open("ab+") as stream:
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                if stream.read() != b"\n":
                    stream.write(b"\n")

    def append(self, **line: Any) -> None:
        """Write one line at once.

        Raises:
            DiskError: it cannot be written.
        """
        text = json.dumps({**line, "job": self.digest}, ensure_ascii=False) + "\n"
        with _telling(self.path), self.path.open("ab", buffering=0) as stream:
            data = text.encode("utf-8", "surrogateescape")
            while data:
                data = data[stream.write(data):]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for text in stream:
                try:
                    line = json.loads(text)
                except ValueError:  # cut off
                    continue
                if isinstance(line, dict) and isinstance(line.get("input"), str):
                    yield line
