"""Choices that torch keeps once for the whole process, made for a block."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager


class ProcessWide:
    """A choice that holds while any thread is inside of `chosen`, and no longer.

    choose: makes it; closing the stack that it is given takes it back.
    """

    def __init__(self, choose: Callable[[ExitStack], None]) -> None:
        self.choose = choose
        self.lock, self.inside, self.restored = threading.Lock(), 0, ExitStack()

    @contextmanager
    def chosen(self) -> Iterator[None]:
        """A block with the choice; what was chosen before holds again after the last one."""
        with self.lock:
            if not self.inside:
                self.choose(self.restored)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if not self.inside:
                    self.restored.close()
