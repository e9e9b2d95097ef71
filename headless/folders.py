"""Where pictures are looked for and written, and under what name."""

import itertools
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from .trial import rescued, why_not

PREVIEWS = "preview"  # the folder of previews inside the output folder
MANY = 99999  # the largest number that a name is expected to hold before it is known
ANNOTATION = re.compile(r" ?\[(input|output|temp)\]$")

Source = Path | BytesIO
"""What a picture is read from."""


@dataclass
class Folders:
    """The places of one run.

    Args:
        output: where pictures are written; made when the first one is.
        sources: the folders in which a workflow's pictures are looked for, in this order.
        given: bare file name -> the file the user gave under it.
        ending: of what is written, and so its format.
        file: where the first picture goes; others stand beside it.
        deep, grey: the names of what was loaded with more than 8 bits, and without colours.

    Attributes:
        lost: a sentence for each picture that its place did not take, with where it is instead.
    """

    output: Path
    sources: tuple[Path, ...] = ()
    given: dict[str, Path] = field(default_factory=dict)
    ending: str = ".png"
    file: Path | None = None
    deep: set[str] = field(default_factory=set)
    grey: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    @classmethod
    def around(cls, workflow: Path, output: Path) -> "Folders":
        """Look beside the workflow, in an input folder there or above, then where we are."""
        home = Path(os.path.realpath(workflow)).parent
        inputs = home / "input", home / "inputs", home.parent / "input"
        return cls(output, tuple(dict.fromkeys((home, *inputs, Path.cwd()))))

    def give(self, file: Path) -> str:
        """Take a file from the user; returns the name under which the workflow may ask for it."""
        alone = self.given.get(file.name, file) == file  # of two of one name one has it
        name = file.name if alone else str(file)
        self.given[name] = file
        return name

    def find(self, name: str) -> Source:
        """The picture a workflow names; "[output]" behind a name means the output folder.

        Raises:
            FileNotFoundError: it is nowhere; the text says where it was looked for.
        """
        if name in self.given:
            return self.given[name]
        plain = ANNOTATION.sub("", name)
        places = {"output": (self.output,), "temp": (self.output / PREVIEWS,)}.get(
            found[1] if (found := ANNOTATION.search(name)) else "input", self.sources)
        for folder in places:
            if plain and os.path.isfile(folder / plain):  # False also of names that cannot be
                return folder / plain
        raise FileNotFoundError(
            f"{name!r} was not found in {', '.join(map(str, places))}; name a picture with --input")

    def write(self, place: "Place", index: int, write: Callable[[IO[bytes]], Any]) -> Path:
        """Write picture number ``index`` of a batch to its place; returns where it is.

        Where the place does not take it, it goes where there is room, so that no work is lost.

        Raises:
            ValueError: nowhere is.
        """
        problem = place.problem
        if not problem:
            try:
                return write_new(place.files(index), write)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or error
                problem = f"cannot write {place.folder / place.name}: {why}"
        name = f"{place.name}_{place.first + index:05}_{place.ending}"
        if (found := rescued(name, write)) is None:
            raise ValueError(f"{problem}; no other folder takes the picture")
        self.lost.append(f"{problem}; the picture is in {found}.")
        return found

    def problem(self, prefix: str, preview: bool) -> str:
        """What is wrong with a beginning of file names, or nothing."""
        try:
            _, path = self._path(prefix, (MANY, MANY), preview)
        except ValueError as error:
            return str(error)
        name = path.name.replace("%batch_num%", str(MANY))
        why = why_not(path.parent / f"{name}_{1:05}_{self.ending}")
        return why and f"filename_prefix {prefix!r} cannot be written in {self.output}: {why}"

    def _path(self, prefix: str, size: tuple[int, int], preview: bool) -> tuple[Path, Path]:
        """The folder that a prefix may not leave, and where it leads."""
        root = Path(os.path.realpath(self.output / PREVIEWS if preview else self.output))
        path = Path(os.path.normpath(root / fill_in(prefix, size)))
        if root not in path.parents:
            raise ValueError(f"filename_prefix {prefix!r} leads out of the output folder {root}; "
                             "give a name inside it")
        return root, path

    def place(self, prefix: str, size: tuple[int, int], preview: bool) -> "Place":
        """Where the pictures of one saving node go, numbered on from those that are there.

        Args:
            prefix: may name a subfolder and hold %width% and the like (see :func:`fill_in`).
            size: (width, height) in pixels.
            preview: whether the pictures are previews.

        Returns:
            The place; with its ``problem`` where nothing can be written.
        """
        ending = ".png" if preview else self.ending
        exact = self.file if not preview else None
        try:
            root, path = self._path(exact.stem if exact else prefix, size, preview)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            return Place(Path(), "", "picture", 1, f"cannot write {prefix!r} in {self.output}: "
                                                   f"{error.strerror or error}")
        except ValueError as error:
            return Place(Path(), "", "picture", 1, str(error))
        taken = re.compile(re.escape(os.path.normcase(path.name)) + r"_(\d+)")
        numbers = [int(found[1]) for entry in os.listdir(path.parent)
                   if (found := taken.match(os.path.normcase(entry)))]
        below = "" if path.parent == root else path.parent.relative_to(root).as_posix()
        return Place(path.parent, below, path.name, max(numbers, default=0) + 1,
                     ending=ending, exact=exact)


@dataclass(frozen=True)
class Place:
    """A folder, its name below the output folder, and the name and first number of what comes.

    ``problem`` is why nothing can be written there, or nothing.
    """

    folder: Path
    subfolder: str
    name: str
    first: int
    problem: str = ""
    ending: str = ".png"
    exact: Path | None = None

    def files(self, index: int) -> Iterator[Path]:
        """The paths of picture number ``index`` (0, 1, ...) of a batch, the next best after each.

        Another run may write into the folder at the same time, and take a number.
        """
        if self.exact and index == 0:
            yield self.folder / self.exact.name
        name = self.name.replace("%batch_num%", str(index))
        for number in itertools.count(self.first + index):
            yield self.folder / f"{name}_{number:05}_{self.ending}"


@contextmanager
def part_of(path: Path, owner: str = "undegrade") -> Iterator[Path]:
    """A name beside a file's own, and nobody else's, to write it under; nothing is left there."""
    part = path.with_name(f".{owner}-{secrets.token_hex(8)}.part")
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def write_new(names: Iterable[Path], write: Callable[[IO[bytes]], Any]) -> Path:
    """Write a file, there whole or not at all, under the first name that is free; returns that."""
    paths = iter(names)
    path = next(paths)
    with part_of(path) as part:
        with part.open("xb") as stream:
            write(stream)
        while not _named(part, path):
            path = next(paths)
    return path


def _named(part: Path, path: Path) -> bool:
    """Give a written file its name, unless another has it already."""
    try:
        os.link(part, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the name is taken first, by one alone
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        part.replace(path)
    return True


def fill_in(prefix: str, size: tuple[int, int]) -> str:
    """Replace %width%, %height%, %year% ... %second% and %date:yyyy-MM-dd% in a file name."""
    if "%" not in prefix:
        return prefix
    now = time.localtime()
    words = {"width": str(size[0]), "height": str(size[1])} | {
        name: time.strftime(code, now)
        for name, code in zip(("year", "month", "day", "hour", "minute", "second"),
                              ("%Y", "%m", "%d", "%H", "%M", "%S"), strict=True)}
    prefix = re.sub(r"%date:([^%]+)%", lambda m: _date(m[1], now), prefix)
    return re.sub(r"%(\w+)%", lambda m: words.get(m[1], m[0]), prefix)


def fill_in_widgets(prefix: str, prompt: Mapping[str, Any] | None) -> str:
    """Replace %Node.widget% by that widget's value, the node named by its title or type."""

    def value(match: re.Match) -> str:
        for node in (prompt or {}).values():
            names = (node.get("class_type"), node.get("_meta", {}).get("title"))
            if match[1] in names and match[2] in node["inputs"]:
                return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", str(node["inputs"][match[2]]))
        return match[0]

    return re.sub(r"%([^%.]+)\.([^%.]+)%", value, prefix)


def _date(pattern: str, now: time.struct_time) -> str:
    """Write a date by the frontend's letters: yyyy yy MM M dd d hh h mm m ss s."""
    codes = {"y": now.tm_year, "M": now.tm_mon, "d": now.tm_mday,
             "h": now.tm_hour, "m": now.tm_min, "s": now.tm_sec}

    def part(match: re.Match) -> str:
        letters = match[0]
        text = str(codes[letters[0]]).zfill(len(letters))
        return text[-len(letters):] if letters[0] == "y" else text

    return re.sub(r"y{4}|yy|MM?|dd?|hh?|mm?|ss?", part, pattern)
