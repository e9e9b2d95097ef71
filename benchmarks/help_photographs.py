"""Example pictures of the nodes for everyday photographs."""

from __future__ import annotations

import io

import numpy as np
import torch
from help_degradation import prior
from PIL import Image, ImageDraw
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


def scratched() -> Tensor:
    """The photograph with three scratches and a grain of dust."""
    picture = Image.fromarray((example()[0] * 255).round().byte().numpy())
    draw = ImageDraw.Draw(picture)
    for line in ([50, 40, 120, 210], [60, 190, 220, 150], [190, 35, 200, 215]):
        draw.line(line, fill=(235, 232, 225), width=2)
    draw.ellipse([150, 60, 153, 63], fill=(240, 238, 230))
    return torch.from_numpy(np.array(picture)).float()[None] / 255


def filled(image: Tensor, mask: Tensor) -> Tensor:
    """What Posterior Sampler makes of the hidden pixels."""
    operator = node("InpaintingMask", mask=mask)[0]
    measurement = node("MeasurementFromImage", image=image, operator=operator, noise_level=0.02)[0]
    return node("PosteriorSampler", prior=prior(), measurement=measurement, steps=20,
                sigma_max=1.0)[0]


def find_scratches() -> Image.Image:
    """Scratched, the mask, and filled."""
    mask = node("FindScratches", image=scratched())[0]
    done = node("MatchGrain", image=filled(scratched(), mask), reference=scratched(), mask=mask)[0]
    return strip([("scratched", scratched()), ("found", mask), ("filled", done)])


def fur() -> Tensor:
    """A window of scikit-image's cat (CC0), IMAGE (1, 256, 256, 3)."""
    from skimage.data import chelsea

    return torch.from_numpy(chelsea()[:256, 100:356]).float()[None] / 255


def fill_from_surroundings() -> Image.Image:
    """What is hidden, the built-in prior's answer, and patches of the picture itself."""
    v, u = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    mask = (((v - 76) ** 2 + (u - 128) ** 2) < 32**2).float()[None]
    smooth = torch.where(mask[..., None] > 0, filled(fur(), mask), fur())
    done = node("FillFromSurroundings", image=fur(), mask=mask)[0]
    return strip([("hidden", torch.where(mask[..., None] > 0, 0.5, fur())),
                  ("Posterior Sampler", smooth), ("from surroundings", done)])


def match_grain() -> Image.Image:
    """A hole filled smoothly, and with grain."""
    image = noisy(18 / 255, 90)
    mask = torch.zeros(1, 256, 256)
    mask[:, 70:150, 130:200] = 1
    smooth = torch.where(mask[..., None] > 0, filled(image, mask), image)
    grain = node("MatchGrain", image=smooth, reference=image, mask=mask)[0]
    return strip([("filled", smooth), ("with grain", grain), ("as it came", image)])


PICTURES = {
    "Denoise": denoise,
    "FillFromSurroundings": fill_from_surroundings,
    "FindScratches": find_scratches,
    "MatchGrain": match_grain,
}
