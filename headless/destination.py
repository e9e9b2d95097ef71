"""Where the pictures of a run go: --output and --format."""

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .folders import Folders

FORMATS = ("png", "jpg", "tif", "webp")  # of --format
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm")


def write_to(folders: "Folders", output: Path, kind: str | None) -> None:
    """Take --output, a folder or a picture file, and --format.

    Raises:
        WorkflowError: a file that is there already, two formats, or one that is not written.
    """
    from .graph import WorkflowError
    from .stock.writing import KINDS

    expect_format(output)
    if kind:
        folders.ending = f".{kind}"
    if output.suffix.lower() not in KINDS or output.is_dir():
        return
    if kind and KINDS[folders.ending] != KINDS[output.suffix.lower()]:
        raise WorkflowError(f"--output {output} and --format {kind} name two formats; leave one "
                            "out.")
    if output.exists():
        raise WorkflowError(f"--output {output}: cannot write there: there is a file of that name; "
                            "choose another name or delete it.")
    folders.output, folders.file, folders.ending = output.parent, output, output.suffix.lower()


def expect_format(output: Path) -> None:
    """Take --output for a folder only where its name does not end like a picture's.

    Raises:
        WorkflowError: it ends in a format that is not written.
    """
    from PIL import Image

    from .graph import WorkflowError
    from .stock.writing import KINDS

    ending = output.suffix.lower()
    if not ending or ending in KINDS or output.is_dir():
        return
    if ending in {*Image.registered_extensions(), *VIDEOS}:
        raise WorkflowError(f"--output {output}: pictures are not written as {ending}; name a file "
                            f"that ends in {', '.join(KINDS)}, or a folder.")


def make_folder(output: Path) -> None:
    """Make the output folder now, rather than find out after an hour that it cannot be made."""
    from .graph import WorkflowError

    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
    except OSError as error:
        raise WorkflowError(f"--output {output}: cannot write there: {error.strerror}.") from error


def unused(path: Path) -> Path:
    """The path, or the first one with a number that is free."""
    names = (path.with_stem(f"{path.stem}_{n}") for n in itertools.count(2))
    return path if not path.exists() else next(name for name in names if not name.exists())
