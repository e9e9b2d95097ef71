"""Draws icon.png (400x400) and banner.png (1260x540, 21:9): a ball in coarse noisy pixels on the
left and clean on the right. Run: python assets/draw.py"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).resolve().parent
NIGHT, GLOW = np.array([24, 30, 42.0]), np.array([240, 150, 70.0])
OVERSAMPLING = 4


def ball(width: int, height: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """A lit ball on a dark ground, (height, width, 3) from 0 to 255."""
    v, u = np.mgrid[:height, :width]
    x, y = (u - centre[0]) / radius, (v - centre[1]) / radius
    z = np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))
    light = np.clip(0.15 * x - 0.55 * y + 0.75 * z, 0, 1)[..., None]
    lit = NIGHT * 0.6 + light * GLOW + 130 * light**12
    ground = NIGHT * (1.3 - 0.5 * v / height)[..., None]
    return np.where((x**2 + y**2 < 1)[..., None], lit, ground)


def degraded(picture: np.ndarray, block: int) -> np.ndarray:
    """Means of blocks, with noise."""
    height, width, _ = picture.shape
    small = picture.reshape(height // block, block, width // block, block, 3).mean((1, 3))
    noise = np.random.default_rng(0).normal(0, 9, small.shape)
    return (small + noise).repeat(block, 0).repeat(block, 1)


def draw(width: int, height: int, radius: float, block: int, edge: float) -> Image.Image:
    """The ball, degraded left of `edge`, a fraction of the width."""
    big = width * OVERSAMPLING, height * OVERSAMPLING
    picture = ball(*big, (edge * big[0], big[1] / 2), radius * OVERSAMPLING)
    cut = round(edge * big[0])
    picture[:, :cut] = degraded(picture, block * OVERSAMPLING)[:, :cut]
    picture[:, cut - 6 : cut + 6] = 255
    image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def rounded(image: Image.Image, radius: int) -> Image.Image:
    """Transparent corners."""
    big = image.width * OVERSAMPLING, image.height * OVERSAMPLING
    mask = Image.new("L", big, 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, *big), radius * OVERSAMPLING, fill=255)
    image.putalpha(mask.resize(image.size, Image.Resampling.LANCZOS))
    return image


def banner() -> Image.Image:
    """The ball to the right of the name."""
    image = draw(1260, 540, 200, 30, 0.74)
    pen = ImageDraw.Draw(image)
    pen.text((70, 180), "Undegrade", fill="white", font=ImageFont.load_default(size=104))
    pen.text((76, 320), "restores pictures, and shows what it made up", fill=(200, 206, 216),
             font=ImageFont.load_default(size=30))
    return image


if __name__ == "__main__":
    rounded(draw(400, 400, 150, 25, 0.5), 72).save(HERE / "icon.png", optimize=True)
    banner().save(HERE / "banner.png", optimize=True)
