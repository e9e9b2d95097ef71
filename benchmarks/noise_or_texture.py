"""How often Denoise takes texture for noise, and noise for texture.

    python benchmarks/noise_or_texture.py [--pictures FOLDER ..] [--every 6]

The eight photographs, and the middles of every so many of each folder's pictures, 256x256, clean
and with white noise of 5, 8, 12 and 20 of 255: as PNG, as JPEG of quality 88, enlarged 1.5 times,
and on a Bayer mosaic, bilinearly demosaiced. Counted are clean pictures that would be smoothed, and
levels in PNG files, where the noise is known, above 1.4 and below .7 of the true one. Of all others
the level that is told is kept in the file of results.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pack
import torch
from denoise_photos import demosaiced, in_8_bits, normal, saved
from photos import EVALUATION, photos
from PIL import Image
from real_noise import middle
from torch import Tensor

from undegrade.pipelines.photograph.noise_bands import FLOOR
from undegrade.pipelines.photograph.noise_curve import noise_of

LEVELS, SIDE = (0, 5, 8, 12, 20), 256
HIGH, LOW = 1.4, 0.7


def enlarged(x: Tensor) -> Tensor:
    """Bicubic, 1.5 times."""
    image = Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    pixels = np.array(image.resize((3 * SIDE // 2,) * 2, Image.Resampling.BICUBIC))
    return torch.from_numpy(pixels).permute(2, 0, 1) / 127.5 - 1


FILES: dict[str, Callable[[Tensor], Tensor]] = {
    "PNG": lambda x: x, "JPEG 88": lambda x: saved(x[None], 0, 0.0, 88)[0], "1.5 times": enlarged,
    "demosaiced": lambda x: in_8_bits(demosaiced(x[None], 0, 0.0, 0.0))[0],
}


def middles(folders: list[Path], every: int) -> dict[str, Tensor]:
    """The middles of the pictures that are large enough."""
    files = [file for folder in folders for file in sorted(folder.glob("*.png"))[::every]]
    large = [file for file in files if min(Image.open(file).size) >= SIDE]
    return {file.stem: middle(file, SIDE)[0] for file in large}


def kind_of(level: float, told: float, known: bool) -> str:
    """What a level that is told does to a picture with noise of `level`, both of 255."""
    if not level:
        return "clean, smoothed" if told > FLOOR * 127.5 else "clean, left"
    if not known:
        return "noise found" if told else "no noise found"
    return "too high" if told > HIGH * level else "too low" if told < LOW * level else "right"


def main() -> None:
    """A table of counts, and every level in benchmarks/results/noise_or_texture.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pictures", type=Path, nargs="*", default=[])
    parser.add_argument("--every", type=int, default=6)
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = dict(zip(EVALUATION, photos(), strict=True)) | middles(given.pictures, given.every)
    told, counts = {}, {}
    for name, x in every.items():
        for level in LEVELS:
            noisy = in_8_bits(x + normal(x, 7) * level / 127.5)
            for file, made in FILES.items():
                found = 127.5 * noise_of(made(noisy)).at(0.0)
                told[f"{name}, {level}, {file}"] = round(found, 1)
                key = file, kind_of(level, found, file == "PNG")
                counts[key] = counts.get(key, 0) + 1
    print(pack.table(["file", "kind", "pictures"], [[*k, n] for k, n in sorted(counts.items())]))
    pack.write_results("noise_or_texture", {"told, of 255": told})


if __name__ == "__main__":
    main()
