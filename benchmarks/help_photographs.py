"""Example pictures of the nodes for everyday photographs."""

from __future__ import annotations

import io

import numpy as np
import torch
from help_degradation import prior
from PIL import Image
from strips import example, node, strip
from torch import Tensor


def noisy(level: float = 25 / 255, quality: int = 80) -> Tensor:
    """The photograph with noise, then saved as JPEG."""
    generator = torch.Generator().manual_seed(0)
    x = example() + level * torch.randn(example().shape, generator=generator)
    picture = Image.fromarray((x[0].clamp(0, 1) * 255).round().byte().numpy())
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).float()[None] / 255


def denoise() -> Image.Image:
    """Before, after, and the truth."""
    image, level, _ = node("Denoise", prior=prior(), image=noisy())
    return strip([(f"noise {level:.2f}, JPEG 80", noisy()), ("denoised", image),
                  ("original", example())])


PICTURES = {
    "Denoise": denoise,
}
