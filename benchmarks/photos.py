"""The photographs every benchmark uses, 256x256 RGB, all of them in scikit-image's wheel.

EVALUATION is what figures are reported on. TUNING is what presets were chosen on; the two share no
photograph. No prior of the pack was trained on any of them. `motorcycle` has no licence line, so
it is measured on and never written to a picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SIDE = 256  # pixels

EVALUATION = ("astronaut", "brick", "camera", "chelsea", "coffee", "coins", "ihc", "rocket")
TUNING = ("gravel", "hubble", "moon", "motorcycle", "motorcycle_detail", "retina")

FILES = {
    "hubble": "hubble_deep_field.jpg",
    "motorcycle": "motorcycle_left.png",
    "motorcycle_detail": "motorcycle_left.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}


def photo(name: str) -> Tensor:
    """One photograph, (1, 3, 256, 256) float32 in [-1, 1]: the centre square, reduced by Lanczos.

    "motorcycle_detail" is a window at the picture's own scale. Grey pictures have three equal
    channels. Raises `ValueError` for a name that is in neither set.
    """
    return read_photo(name, SIDE)


def enlarged_photo(name: str, margin: int) -> Tensor:
    """The photograph and `margin` pixels around it of the same scale, (1, 3, 256 + 2 margin, ..).

    The whole square that `photo` shows, at a slightly larger scale: its middle is another
    rendering of the photograph.
    """
    return read_photo(name, SIDE + 2 * margin)


def read_photo(name: str, side: int) -> Tensor:
    """`photo` with another number of pixels a side."""
    import skimage.data
    from PIL import Image

    if name not in EVALUATION + TUNING:
        raise ValueError(f"There is no photograph {name!r}; choose one of {EVALUATION + TUNING}.")
    file = Path(skimage.data.__file__).parent / FILES.get(name, f"{name}.png")
    image = Image.open(file).convert("RGB")
    if name == "motorcycle_detail":
        image = image.crop((40, 40, 40 + side, 40 + side))
    else:
        square = min(image.size)
        left, top = (image.width - square) // 2, (image.height - square) // 2
        image = image.crop((left, top, left + square, top + square))
        image = image.resize((side, side), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    return pixels.contiguous().float() / 127.5 - 1


def photos(names: tuple[str, ...] = EVALUATION) -> Tensor:
    """Several photographs, (B, 3, 256, 256)."""
    return torch.cat([photo(name) for name in names])
