"""Files that are there whole or not at all, and the manifest."""

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..folders import part_of
from ..graph import WorkflowError

MANIFEST = "manifest.jsonl"
OWNER = "batch"  # how the names of part files begin


# The disk as a whole takes no more; all else concerns one file.
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ENOTCONN,
        errno.ESTALE}


class SaveError(RuntimeError):
    """An output cannot be written; the message is one sentence."""

    ADVICE = ""

    def __init__(self, problem: str, found: Path | None = None):
        """Say where it is instead, and what to do."""
        where = f"; it is in {found}" if found else ""
        super().__init__(f"{problem}{where}{self.ADVICE}.")
        self.problem = problem


class DiskError(SaveError):
    """The output folder takes no more at all."""

    ADVICE = "; make room and run the same command again, it goes on where it stopped"


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kind = DiskError if error.errno in FULL else SaveError
        raise kind(f"cannot write {path}: {error.strerror or error}") from error


def put(path: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` make a file under a temporary name, then give it its own.

    Raises:
        SaveError: it cannot be written; nothing is left of it.
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
        self.skipped: dict[str, str | None] = {}

    def finished(self) -> dict[str, dict[str, Any]]:
        """Input name -> its line, for every input that this job finished with all its files there.

        What was skipped is remembered, to be told once only.

        A line that was cut off by a kill counts as not written.

        Raises:
            WorkflowError: results of another job are in the folder.
        """
        found: dict[str, dict[str, Any]] = {}
        for line in self._lines():
            if self._is_done(line) and line.get("job") != self.digest:
                raise WorkflowError(
                    f"{self.path} tells of results with another workflow, seed or settings; "
                    "choose another --output.")
            found[line["input"]] = line
        folder = self.path.parent
        self.skipped = {name: line.get("skipped") for name, line in found.items()}
        return {name: line for name, line in found.items() if self._is_done(line)
                and all((folder / file).is_file() for file in line["output"])}

    def begin(self, planned: Iterable[str]) -> None:
        """Make the file, or end a line that was cut off.

        Raises:
            WorkflowError: there is no manifest, but a file of a planned name.
            SaveError: it cannot be written.
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

    def skip(self, names: Mapping[str, str]) -> None:
        """Tell of files that are no input, and why. Raises `SaveError`."""
        for name, why in names.items():
            if self.skipped.get(name) != why:
                self.append(input=name, output=[], skipped=why, error=None)

    @staticmethod
    def _is_done(line: dict[str, Any]) -> bool:
        return line.get("error") is None and "skipped" not in line

    def append(self, **line: Any) -> None:
        """Write one line at once, in UTF-8; a name's bytes that are none are escaped in it.

        Raises:
            SaveError: it cannot be written.
        """
        line |= {"input": _told(line["input"]), "output": [*map(_told, line["output"])]}
        text = json.dumps({**line, "job": self.digest}, ensure_ascii=False) + "\n"
        with _telling(self.path), self.path.open("ab", buffering=0) as stream:
            data = text.encode("utf-8", "backslashreplace")  # JSON's own escape
            while data:
                data = data[stream.write(data):]

    def _lines(self) -> Iterator[dict[str, Any]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for text in stream:
                with suppress(ValueError, TypeError, KeyError, AttributeError):  # cut off, not ours
                    line = json.loads(text)
                    yield line | {"input": _meant(line["input"]),
                                  "output": [*map(_meant, line["output"])]}


def _told(name: str) -> str:
    """A file's name as the manifest has it, the same under every locale."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _meant(text: str) -> str:
    """The file's name under this one."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))
