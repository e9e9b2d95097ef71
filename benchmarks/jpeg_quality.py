"""How near Estimate JPEG Quality comes, on photographs that Pillow saved.

Run: python benchmarks/jpeg_quality.py. Every photograph of `photos.py` at fifteen random qualities
from 10 to 98, colour at half resolution and whole by turns, read back as float pictures; and the
photographs as they are, in which nothing shall be found.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from pathlib import Path

import numpy as np
import pack  # noqa: F401  (makes `undegrade` importable)
import torch
from photos import EVALUATION, TUNING, photo
from PIL import Image
from torch import Tensor

from undegrade.pipelines.photograph.jpeg_quality import NEAR, estimate_quality

OUT = Path(__file__).parent / "results" / "jpeg_quality.json"


def saved(x: Tensor, quality: int, subsampling: int) -> Tensor:
    """(3, H, W) in [-1, 1] as it comes back from a JPEG file."""
    pixels = ((x.permute(1, 2, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1).float() / 127.5 - 1


def main() -> None:
    """Print the misses and the share that is near, and write all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--each", type=int, default=15, help="files per photograph")
    each = parser.parse_args().each
    torch.set_num_threads(1)
    draw, rows, start = random.Random(0), [], time.process_time()
    for name in EVALUATION + TUNING:
        picture = photo(name)[0]
        for k in range(each):
            quality = draw.randint(10, 98)
            found = estimate_quality(saved(picture, quality, 2 * (k % 2)))
            rows.append([name, quality, 2 * (k % 2), found.quality, found.sure])
            if abs(found.quality - quality) > NEAR or not found.sure:
                print(*rows[-1])
    seconds = (time.process_time() - start) / len(rows)
    clean = [name for name in EVALUATION + TUNING if estimate_quality(photo(name)[0]).found]
    near = sum(abs(found - quality) <= NEAR for _, quality, _, found, _ in rows)
    wrong_and_sure = sum(abs(f - q) > NEAR and sure for _, q, _, f, sure in rows)
    print(f"{near} of {len(rows)} within {NEAR}, {wrong_and_sure} wrong and sure, "
          f"{seconds:.2f} s each; found in clean photographs: {clean}")
    OUT.write_text(json.dumps({
        "within": near, "of": len(rows), "wrong_and_sure": wrong_and_sure,
        "seconds": round(seconds, 2), "found_in_clean": clean,
        "columns": ["photograph", "quality", "subsampling", "found", "sure"], "rows": rows}) + "\n")


if __name__ == "__main__":
    main()
