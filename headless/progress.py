"""One bar per node that reports progress, and where a run's results are told."""

import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from .folders import PREVIEWS, Folders
from .graph import Node


class Report:
    """Observer of a run: draws bars on stderr, writes texts and file names to stdout.

    While it is open (``with``), the pack's own progress reports end here.

    Args:
        host: the module with ``set_progress_sink``, the pack's only door to its host.
        folders: for the paths of pictures that nodes say they saved.
        quiet: draw no bars; none are drawn into a file or a pipe in any case.
        words: write texts and file names.

    Attributes:
        saved: every picture that was saved, in this order.
        said: what each type of node said last, a text or one for each picture.
    """

    def __init__(self, host: Any, folders: Folders, quiet: bool = False,
                 words: bool = True):
        """Draw nothing yet."""
        self._host, self._folders = host, folders
        self._quiet = quiet or not sys.stderr.isatty()
        self._words = words
        self._node: Node | None = None
        self._bar: Any = None
        self._previous: Any = None
        self.saved: list[Path] = []
        self.said: dict[str, list[str]] = {}

    def __enter__(self) -> "Report":
        """Take the pack's progress reports."""
        self._previous = self._host.set_progress_sink(self.progress)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        """Hand the progress reports back and leave no bar open."""
        self._host.set_progress_sink(self._previous)
        self._close()

    def started(self, node: Node) -> None:
        """Remember whose progress comes next."""
        self._close()
        self._node = node

    def finished(self, node: Node, ui: dict[str, list]) -> None:
        """Write what the node wants shown."""
        self._close()
        if texts := ui.get("text"):
            self.said[node.type] = [*map(str, texts)]
        for text in texts or ():
            self._tell(f"{node.title}: {text}\n")
        for image in ui.get("images", ()):
            path = self._path(image)
            if image.get("type") != "temp":
                self.saved.append(path)
            self._tell(f"{node.title}: {path}\n")
        sys.stdout.flush()

    def _tell(self, line: str) -> None:
        if self._words:
            sys.stdout.write(line)

    def progress(self, title: str | None, value: int, total: int) -> None:
        """Move the bar of the node that runs."""
        if self._quiet:
            return
        from tqdm import tqdm

        if self._bar is None:
            name = title or (self._node.title if self._node else None)
            self._bar = tqdm(total=total, desc=name, file=sys.stderr, dynamic_ncols=True)
        elif value < self._bar.n or total != self._bar.total:
            self._bar.reset(total)  # the node began another pass
        self._bar.update(value - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _path(self, image: dict[str, str]) -> Path:
        root = self._folders.output
        root = root / PREVIEWS if image.get("type") == "temp" else root
        return root / image.get("subfolder", "") / image.get("filename", "")
