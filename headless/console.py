"""What the command says reaches the console where it can, and never ends a run where it cannot."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from typing import Any


class Lasting:
    """A stream that outlives its reader.

    What its encoding cannot show is written as an escape such as \\xe9. When the reader is gone
    (``undegrade nodes | head``), or the disk under a log is full, the rest is dropped.
    """

    def __init__(self, stream: Any):
        """Take a stream; None, which Python has in the place of a closed one, takes nothing."""
        self._stream: Any = stream

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write what can be written."""
        with self._lasting():
            if self._stream is not None:
                self._write(text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send on what has been written."""
        with self._lasting():
            if self._stream is not None:
                self._stream.flush()

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return self._stream is not None and self._stream.isatty()

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))

    @contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # no reader, no room, closed
            with suppress(OSError, ValueError):  # also for what still waits in the buffer
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)
            self._stream = None


@contextmanager
def lasting_console() -> Iterator[None]:
    """Let stdout and stderr outlive their readers."""
    out, err = Lasting(sys.stdout), Lasting(sys.stderr)
    with ExitStack() as stack:
        stack.enter_context(redirect_stdout(out))  # type: ignore[type-var]
        stack.enter_context(redirect_stderr(err))  # type: ignore[type-var]
        stack.callback(out.flush)
        stack.callback(err.flush)
        yield
