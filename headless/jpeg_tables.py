"""What a JPEG file says of itself: the quality that its quantisation tables are nearest to."""

from contextlib import suppress
from pathlib import Path

CLOSE = 0.1  # mean difference of logarithms up to which tables count as those of a quality


def file_quality(file: Path) -> int:
    """1 to 100, or 0 for a file that is no JPEG, cannot be read, or has tables of its own."""
    from PIL import Image

    with suppress(OSError, ValueError), Image.open(file) as picture:
        return nearest(getattr(picture, "quantization", {}))
    return 0


def nearest(written: dict) -> int:
    """The quality of tables as Pillow gives them, number -> 64 steps; 0 where none is close."""
    import torch

    from ..pipelines.operators.jpeg_blocks import tables

    steps = [torch.tensor(list(written[k])).float() for k in sorted(written)[:2]]
    if not steps or any(len(each) != 64 for each in steps):
        return 0
    found = []
    for quality in range(1, 101):
        known = [table.flatten() for table in tables(quality)[: len(steps)]]
        off = [(a / b).log().abs().mean() for a, b in zip(steps, known, strict=True)]
        found.append(float(sum(off)) / len(off))
    best = min(range(100), key=found.__getitem__)
    return best + 1 if found[best] <= CLOSE else 0
