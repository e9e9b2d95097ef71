"""Patterns and folders -> the files of a run, with the names their outputs keep."""

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..graph import WorkflowError

PICTURES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
VIDEOS = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"}
CONTAINERS = {".m4v": ".mp4", ".mp4": ".mp4", ".mov": ".mov"}  # the rest become Matroska


@dataclass(frozen=True)
class Item:
    """One file to restore; ``name`` is its path below what the pattern leaves open, with "/"."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it is restored frame by frame."""
        return self.path.suffix.lower() in VIDEOS

    def output(self, ending: str = "") -> str:
        """The name of what becomes of it, below the output folder."""
        stem, suffix = str(Path(self.name).with_suffix("")), self.path.suffix.lower()
        return f"{stem}{ending}{CONTAINERS.get(suffix, '.mkv') if self.is_video else '.png'}"


def is_there(pattern: str) -> bool:
    """Whether a pattern, taken as it stands, matches anything."""
    return Path(pattern).exists() or next(glob.iglob(pattern, recursive=True), None) is not None


def gather(pattern: str) -> tuple[Path, list[Item]]:
    """The files of one pattern, in the order of their names.

    Args:
        pattern: a file, a folder (every picture and video in it and below), or a glob pattern in
            which ** stands for any depth.

    Returns:
        The folder that the names are relative to, which is what precedes the first wildcard, and
        the files.

    Raises:
        WorkflowError: nothing matches.
    """
    root = Path(pattern)
    if root.is_dir():
        kinds = PICTURES | VIDEOS
        paths = [p for p in root.rglob("*") if p.suffix.lower() in kinds and not p.is_dir()]
        if not paths:
            raise WorkflowError(f"--input {pattern}: there is no picture and no video in it.")
    elif root.exists():
        root, paths = root.parent, [root]
    else:
        fixed = root.parts[:next((i for i, part in enumerate(root.parts) if glob.has_magic(part)),
                                 len(root.parts))]
        root = Path(*fixed)
        paths = [p for p in map(Path, glob.iglob(pattern, recursive=True)) if not p.is_dir()]
        if not paths:
            raise WorkflowError(f"--input {pattern}: no file matches; quote the pattern, and write "
                                "** for folders of any depth.")
    items = [Item(path, path.relative_to(root).as_posix()) for path in paths]
    return root, sorted(items, key=lambda item: item.name)


def check_places(roots: Iterable[Path], items: Iterable[Item], output: Path) -> None:
    """Refuse outputs that would become inputs, replace one, or replace each other.

    Raises:
        WorkflowError: one of those, and which.
    """
    folder = output.resolve()
    for root in roots:
        if root.resolve() in (folder, *folder.parents):
            raise WorkflowError(f"--output {output} lies inside the input folder {root}, where the "
                                "next run would take results for inputs; choose a folder outside.")
    sources = {item.path.resolve() for item in items}
    made: dict[str, Item] = {}
    for item in items:
        other = made.setdefault(item.output(), item)
        if other is not item:
            raise WorkflowError(f"{other.path} and {item.path} would both become {item.output()} "
                                f"in {output}; run them into two folders.")
        if (target := folder / item.output()) in sources:
            raise WorkflowError(f"the result of {item.path} would replace the input {target}; "
                                "choose another --output.")
