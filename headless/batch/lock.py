"""A folder belongs to one batch at a time."""

import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ..graph import WorkflowError

LOCK, HOLDER = ".undegrade.lock", ".undegrade.holder"
PATIENCE = 1.0  # seconds to wait for a batch that is just ending


@contextmanager
def held(output: Path, below: Iterable[Path]) -> Iterator[None]:
    """Keep a folder for this process; when it ends, killed or not, the system lets go of it.

    Args:
        output: the folder.
        below: the folders in it that outputs go to.

    Raises:
        WorkflowError: another batch has the folder, one that contains it or one below; and who.
    """
    lock = _locked(output, output, PATIENCE)
    holder = output / HOLDER
    try:
        for other in (*Path(os.path.realpath(output)).parents, *below):
            if (other / LOCK).is_file():
                _locked(output, other, 0).release()
        try:
            holder.write_text(json.dumps({
                "process": os.getpid(), "host": socket.gethostname(),
                "since": time.strftime("%Y-%m-%d %H:%M:%S")}), encoding="utf-8")
        except OSError as error:
            raise WorkflowError(f"--output {output}: cannot write there: {error.strerror}; make "
                                "room or choose another --output.") from error
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _locked(output: Path, folder: Path, patience: float) -> FileLock:
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise WorkflowError(f"--output {output}: another batch {_who(folder)} writes into {folder};"
                            " wait for its end or choose another --output.") from error
    except (OSError, NotImplementedError) as error:
        raise WorkflowError(f"--output {output}: cannot lock {folder / LOCK} against a second "
                            f"batch: {error}; choose another --output.") from error
    return lock


def _who(folder: Path) -> str:
    try:
        told = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"(process {told['process']} on {told['host']}, since {told['since']})"
    except (OSError, ValueError, TypeError, KeyError):  # it has only just begun
        return "that has just begun"
