"""Whether a run fits into the computer's memory, asked before its first step."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

from ..models.prior import Prior
from ..pipelines.large_states import bytes_of_run
from .comfyui import host

KNOWN = Path("/proc/meminfo")  # of Linux


def free() -> int | None:
    """Bytes that a program may still take, those that lie on the disk included; None where it is
    not known.
    """
    with suppress(OSError, ValueError, KeyError):
        lines = (line.split(":") for line in KNOWN.read_text().splitlines())
        kilobytes = {name: int(rest.split()[0]) for name, rest in lines}
        return 1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"])
    psutil = sys.modules.get("psutil")  # ComfyUI imports it
    return psutil.virtual_memory().available + psutil.swap_memory().free if psutil else None


def check_room(prior: Prior, batch: int, height: int, width: int) -> None:
    """Raise `MemoryError` where a run on the CPU with pictures of this size will not fit.

    A card is asked for less when it has too little; ComfyUI frees it by itself.
    """
    room, needed = free(), bytes_of_run(prior, batch, height, width)
    if host.device().type != "cpu" or room is None or needed <= room:
        return
    what = f"{batch} pictures" if batch > 1 else "A picture"
    raise MemoryError(
        f"{what} of {width}x{height} pixels would take about {needed / 1e9:.1f} GB of memory here, "
        f"and {room / 1e9:.1f} GB are free; put Tiled Prior before this node if there is none, "
        "give fewer or smaller pictures, or a smaller scale."
    )
