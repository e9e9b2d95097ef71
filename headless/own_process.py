"""What the command sets for its own process, and a server's must not be: memory and threads.

glibc gives every block beyond 32 MB back to the system at once, and takes the next one in pages
that are zeroed one by one. A network's maps of a large picture are such blocks: much of the
processor's time went there from a megapixel on. The command keeps what it freed instead.

On a machine that others work on too, as many threads as cores wait for one another at every step:
two threads took twelve times as long as one. So there are as many as cores are free.
"""

import os
import sys
from contextlib import suppress

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's mallopt
KEPT = 2**30  # bytes of a block up to which freed memory stays


def keep_memory() -> bool:
    """Ask the C library to keep freed memory; whether it does. Nothing but glibc is asked."""
    chosen = any(name.startswith("MALLOC_") for name in os.environ)
    if chosen or not sys.platform.startswith("linux"):
        return False
    import ctypes

    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  (others have a mallopt that does other things)
        return all(library.mallopt(key, KEPT) == 1 for key in (MMAP_THRESHOLD, TRIM_THRESHOLD))
    return False


def threads(cores: int, load: float) -> int:
    """How many threads leave the others' work alone, 1 or more.

    load: the mean number of busy cores over the last minute.
    """
    return max(1, min(cores, round(cores - load)))


def choose_threads() -> None:
    """Let torch use the cores that are free, unless the user has chosen (OMP_NUM_THREADS)."""
    if "OMP_NUM_THREADS" in os.environ or "MKL_NUM_THREADS" in os.environ:
        return
    import torch

    cores = torch.get_num_threads()
    with suppress(OSError, AttributeError):  # Windows knows no load
        torch.set_num_threads(threads(cores, os.getloadavg()[0]))
