"""Patterns and folders -> the files of a run, with the names their outputs keep."""

import glob
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from ..graph import WorkflowError
from ..trial import folding

VIDEOS = {".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m1v", ".m2t", ".m2ts",
          ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv", ".mov", ".mp4", ".mpe",
          ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".ts",
          ".vob", ".webm", ".wmv", ".wtv", ".y4m"}
CONTAINERS = {".m4v": ".mp4", ".mp4": ".mp4", ".mov": ".mov"}  # the rest become Matroska
COMPANIONS = {".ds_store", "desktop.ini", "ehthumbs.db", "icon\r", "thumbs.db"}
COMPANION_FOLDERS = {"$recycle.bin", "__macosx", "@eadir", "system volume information"}
NOT_PICTURES = {"EPS", "MPEG"}  # programs; videos, of which Pillow knows the name only

SHOWN = 5  # names of skipped files in the last line; the manifest has them all


@dataclass(frozen=True)
class Item:
    """One file to restore; ``name`` is its path below what the pattern leaves open, with "/",
    ``ending`` that of a picture's result."""

    path: Path
    name: str
    ending: str = ".png"

    @property
    def is_video(self) -> bool:
        """Whether it is restored frame by frame."""
        return self.path.suffix.lower() in VIDEOS

    def output(self, more: str = "") -> str:
        """The name of what becomes of it, below the output folder."""
        stem, suffix = str(Path(self.name).with_suffix("")), self.path.suffix.lower()
        return f"{stem}{more}{CONTAINERS.get(suffix, '.mkv') if self.is_video else self.ending}"


@dataclass(frozen=True)
class Found:
    """What a pattern matches: the folder that names are relative to, and files by what they are."""

    root: Path
    items: list[Item]
    skipped: dict[str, str]  # name -> why


@cache
def picture_endings() -> frozenset[str]:
    """The endings of every kind of picture that Pillow reads."""
    from PIL import Image, ImageFile

    Image.init()
    read = {"MPO"} | {kind for kind, (opener, _) in Image.OPEN.items() if not (
        isinstance(opener, type) and issubclass(opener, ImageFile.StubImageFile))}
    return frozenset(ending for ending, kind in Image.registered_extensions().items()
                     if kind in read - NOT_PICTURES)


def is_there(pattern: str) -> bool:
    """Whether a pattern, taken as it stands, matches anything."""
    return os.path.exists(pattern) or next(_matches(*_split(pattern)), None) is not None


def gather(pattern: str) -> Found:
    """The files of one pattern, in the order of their names.

    Args:
        pattern: a file, a folder (every picture and video in it and below), or a glob pattern in
            which ** stands for any depth. A single file is taken whatever its ending is, and so are
            those of a pattern that ends in it; links to files are followed, links to folders only
            where the pattern names them.

    Raises:
        WorkflowError: nothing matches.
    """
    root = Path(pattern)
    if os.path.isdir(pattern):
        paths, asked, nothing = _walk(root), "", "there is no picture and no video in it"
    elif os.path.exists(pattern):
        return Found(root.parent, [Item(root, root.name)], {})
    else:
        root, parts = _split(pattern)
        paths = ((path, "") for path in _matches(root, parts))
        asked = "" if glob.has_magic(ending := Path(pattern).suffix) else ending.lower()
        nothing = "no file matches; quote the pattern, and write ** for folders of any depth"
    items: dict[str, Item] = {}
    skipped: dict[str, str] = {}
    for path, why in paths:
        name = path.relative_to(root).as_posix()
        if not COMPANION_FOLDERS.isdisjoint(name.lower().split("/")[:-1]):
            why = "in another system's folder"
        if why := why or _why_skipped(path, asked):
            skipped[name] = why
        else:
            items[name] = Item(path, name)
    if not items:
        more = "".join(f" {name}: {why}." for name, why in sorted(skipped.items())[:5])
        raise WorkflowError(f"--input {pattern}: {nothing}.{more}")
    return Found(root, [items[name] for name in sorted(items)], skipped)


def merge(found: Sequence[Found], ending: str = ".png") -> tuple[list[Item], dict[str, str]]:
    """The files of several patterns, each once, to be written with this ending, and what is
    skipped.

    Of a file that several links lead to, the one that is no link is taken.
    """
    items: dict[str, Item] = {}
    skipped: dict[str, str] = {}
    every = [item for one in found for item in one.items]
    for item in sorted(every, key=lambda item: os.path.islink(item.path)):
        other = items.setdefault(os.path.realpath(item.path), item)
        if os.path.abspath(other.path) != os.path.abspath(item.path):
            skipped[item.name] = f"the same file as {other.path}"
    for one in found:
        skipped |= one.skipped
    names = {item.name for item in items.values()}
    return (sorted((replace(item, ending=ending) for item in items.values()), key=lambda i: i.name),
            {name: why for name, why in skipped.items() if name not in names})


def listed(skipped: Mapping[str, str]) -> str:
    """How many files were skipped for which reason, with the first few names."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(skipped.items()):
        reasons.setdefault(why, []).append(name)
    told = []
    for why, names in reasons.items():
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        told.append(f"{', '.join(names[:SHOWN])}{more} ({why})")
    return f"{len(skipped)} skipped: {'; '.join(told)}"


def _why_skipped(path: Path, asked: str) -> str:
    """Why a file is not taken, or nothing."""
    if path.name.lower() in COMPANIONS or path.name.startswith("._"):
        return "another system's companion of a file or folder"
    if os.path.exists(path) and not os.path.isfile(path):
        return "no regular file"
    ending = path.suffix.lower()
    if ending not in VIDEOS and ending not in picture_endings() and ending != (asked or None):
        return "no picture and no video by its ending"
    return ""


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file in a folder and below, and why those that are skipped are."""
    unread: list[OSError] = []
    for folder, folders, files in os.walk(root, onerror=unread.append):
        for name in [*folders]:
            path = Path(folder, name)
            if why := ("hidden" if name.startswith(".") else
                       "another system's folder" if name.lower() in COMPANION_FOLDERS else
                       "a link to a folder; name it with --input" if path.is_symlink() else ""):
                folders.remove(name)
                yield path, why
        for name in files:
            path = Path(folder, name)
            yield path, "hidden" if name.startswith(".") and not _why_skipped(path, "") else ""
    for error in unread:
        yield Path(error.filename), f"cannot be read: {error.strerror}"


def _split(pattern: str) -> tuple[Path, list[str]]:
    """The folder before the first wildcard, and the parts of the pattern from there on."""
    parts = Path(pattern).parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    return Path(*parts[:fixed]), list(parts[fixed:])


def _matches(folder: Path, parts: list[str]) -> Iterator[Path]:
    """The files that a pattern matches below a folder; hidden ones where it begins with a dot."""
    if not parts:
        if os.path.lexists(folder) and not os.path.isdir(folder):
            yield folder
        return
    first, *rest = parts
    if not glob.has_magic(first):
        yield from _matches(folder / first, rest)
        return
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    shown = [name for name in names if name.startswith(".") <= first.startswith(".")]
    if first != "**":
        for name in shown:
            if fnmatch(name, first):
                yield from _matches(folder / name, rest)
        return
    yield from _matches(folder, rest or ["*"])
    for name in shown:
        if os.path.isdir(folder / name) and not os.path.islink(folder / name):
            yield from _matches(folder / name, parts)


def room(items: Iterable[Item], output: Path) -> str:
    """A line to tell where the outputs will hardly have room, as large as the inputs; or nothing.

    How large they become is not known, and a full disk only interrupts a batch; hence no refusal.
    """
    need = sum(os.path.getsize(item.path) for item in items if os.path.isfile(item.path))
    free = shutil.disk_usage(output).free
    return "" if need <= free else (
        f"--output {output}: {free / 1e6:.3f} MB are free there, and the inputs hold "
        f"{need / 1e6:.3f} MB; when it is full the run stops, and goes on when started again.\n")


def check_places(roots: Iterable[Path], items: Iterable[Item], output: Path) -> None:
    """Refuse outputs that would become inputs, replace one, or replace each other.

    Raises:
        WorkflowError: one of those, and which.
    """
    folder = os.path.realpath(output)
    for root in roots:
        if os.path.realpath(root) in (folder, *map(str, Path(folder).parents)):
            raise WorkflowError(f"--output {output} lies inside the input folder {root}, where the "
                                "next run would take results for inputs; choose a folder outside.")
    same = folding(output)
    sources = {same(os.path.realpath(item.path)) for item in items}
    made: dict[str, Item] = {}
    for item in items:
        other = made.setdefault(same(item.output()), item)
        if other is not item:
            raise WorkflowError(f"{other.path} and {item.path} would both become {item.output()} "
                                f"in {output}; run them into two folders.")
        if same(target := os.path.join(folder, item.output())) in sources:
            raise WorkflowError(f"the result of {item.path} would replace the input {target}; "
                                "choose another --output.")
