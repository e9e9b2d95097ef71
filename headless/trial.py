"""What a file system takes, found out by trying before the work; nothing of a trial stays."""

import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any


def why_not(path: Path) -> str:
    """Why no file of this name can be made, or nothing where it can."""
    try:
        os.lstat(path)
        return "there is a folder of that name" if path.is_dir() else ""
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:  # too long, below a file, no name at all
        return _told(error)
    home, missing = _home(path)
    for name in missing:
        trial = home / ("." * len(name[0].encode("utf-8", "surrogatepass")) + name[1:])  # as long
        try:
            os.close(os.open(trial, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            os.unlink(trial)
        except FileExistsError:
            continue
        except (OSError, ValueError) as error:
            return _told(error)
    return ""


def within(folder: Path) -> Path:
    """The folder, or where it is not there yet the nearest that is."""
    return _home(folder / "x")[0]


def _home(path: Path) -> tuple[Path, list[str]]:
    """The nearest folder that is there, and the names that are still to be made in it."""
    missing = [path.name]
    for folder in path.absolute().parents:
        if os.path.isdir(folder):
            return folder, missing
        missing.append(folder.name)
    return path.absolute().parent, missing


def _told(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, UnicodeError):
        return "file names here cannot hold all of its letters"
    return "a file name cannot hold the letter of number 0"


def folding(folder: Path) -> Callable[[str], str]:
    """What brings names to one form that the folder's file system takes for one name."""
    home = within(folder)
    name = f".undegrade-{secrets.token_hex(8)}-A\u00e9.part"
    case = form = False
    with suppress(OSError, ValueError):
        os.close(os.open(home / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        try:
            case = os.path.lexists(home / name.replace("A", "a"))
            form = os.path.lexists(home / unicodedata.normalize("NFD", name))
        finally:
            os.unlink(home / name)

    def same(text: str) -> str:
        text = unicodedata.normalize("NFC", text) if form else text
        return text.casefold() if case else text

    return same


def rescued(name: str, write: Callable[[IO[bytes]], Any]) -> Path | None:
    """Write a file, which its own folder does not take, to where it can be; returns where."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)[-80:]
    for home in (tempfile.gettempdir, Path.home, Path.cwd, lambda: "/dev/shm"):
        with suppress(OSError, RuntimeError):
            folder = Path(tempfile.mkdtemp(prefix="undegrade-", dir=home()))
            try:
                with (folder / plain).open("xb") as stream:
                    write(stream)
                return folder / plain
            except BaseException:
                shutil.rmtree(folder, ignore_errors=True)
                raise
    return None
