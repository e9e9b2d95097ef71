"""Pictures drawn from a seed, with the statistics that photographs share.

Dead leaves (Lee, Mumford and Huang, "Occlusion Models for Natural Images", IJCV 2001): opaque
shapes fall on one another, their radii with density r^-3, which makes the picture look alike at
every scale. Leaves carry gradients, stripes and 1/f noise and throw soft shadows; strokes, letters
and a light from one side are laid over them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Array = np.ndarray

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?&%"
SMALLEST_RADIUS = 2.0  # pixels


def canvas(seed: int, side: int = 512) -> Array:
    """One picture, (side, side, 3) uint8; the same seed and side give the same picture."""
    rng = np.random.default_rng((seed, side))
    field = power_noise(rng, side, rng.uniform(0.8, 1.6))
    palette = colours(rng)
    x = base(rng, side, palette, field)
    if rng.random() > 0.1:  # one in ten stays smooth
        for leaf in leaves(rng, side):
            drop(x, leaf, rng, palette, field)
        for _ in range(rng.integers(0, 4)):
            lay(x, stroke_mask(rng, side), rng, palette)
        for _ in range(rng.integers(0, 3)):
            lay(x, letter_mask(rng, side), rng, palette)
    light = 1 + rng.uniform(0, 0.4) * ramp(rng, side, side)[..., None]
    x = np.clip(x * light, 0, 1) ** rng.uniform(0.8, 1.25)
    if rng.random() < 0.1:
        x[:] = x.mean(-1, keepdims=True)
    return (x * 255).round().astype(np.uint8)


@dataclass(frozen=True)
class Leaf:
    """A shape: centre and radius in pixels, its flattening, angle, and outline."""

    y: float
    x: float
    radius: float
    flat: float
    angle: float
    power: float
    waves: tuple[int, float, float]  # number, height, phase of the outline's waves


def leaves(rng: np.random.Generator, side: int) -> list[Leaf]:
    """The leaves of one canvas in the order in which they fall; radii have density r^-3."""
    low, high = SMALLEST_RADIUS * rng.choice([1, 2, 4]), side * rng.uniform(0.15, 0.5)
    count = int(rng.uniform(0.5, 2.0) * side**2 / (math.pi * low**2 * math.log(high / low)))
    u = rng.random(min(count, 2500))
    radii = 1 / np.sqrt(u / high**2 + (1 - u) / low**2)
    outlines = rng.choice([1.0, 2.0, 2.0, 8.0], size=len(radii))  # diamond, ellipse, rectangle
    found = []
    for radius, power in zip(radii, outlines, strict=True):
        wavy = power == 2 and rng.random() < 0.5
        waves = (int(rng.integers(2, 9)), rng.uniform(0.05, 0.35) * wavy, rng.uniform(0, 6.3))
        flat, angle = rng.uniform(0.15, 1), rng.uniform(0, math.pi)
        y, x = rng.uniform(0, side, 2)
        found.append(Leaf(y, x, radius, flat, angle, power, waves))
    return found


def drop(x: Array, leaf: Leaf, rng: np.random.Generator, palette: Array, field: Array) -> None:
    """Draw a leaf with its shadow into x, (side, side, 3)."""
    side, reach = x.shape[0], 1.6 * leaf.radius + 3
    y0, y1 = max(0, int(leaf.y - reach)), min(side, int(leaf.y + reach) + 1)
    x0, x1 = max(0, int(leaf.x - reach)), min(side, int(leaf.x + reach) + 1)
    if y1 <= y0 or x1 <= x0:
        return
    v, u = np.ogrid[y0:y1, x0:x1]
    place = x[y0:y1, x0:x1]
    if rng.random() < 0.3:
        dy, dx = rng.uniform(-0.2, 0.2, 2) * leaf.radius
        f = outline(leaf, v - dy, u - dx)
        shade = np.clip((1.35 - f) / 0.6, 0, 1)
        place *= (1 - rng.uniform(0.2, 0.7) * shade**2)[..., None]
    sharp = leaf.radius * leaf.flat ** 0.5 / (1 if rng.random() < 0.8 else rng.uniform(1, 5))
    cover = np.clip((1 - outline(leaf, v, u)) * sharp + 0.5, 0, 1)[..., None]
    place += cover * (fill(rng, y1 - y0, x1 - x0, palette, field) - place)


def outline(leaf: Leaf, v: Array, u: Array) -> Array:
    """Distance from the centre in units of the radius: 1 on the outline."""
    c, s = math.cos(leaf.angle), math.sin(leaf.angle)
    a = ((u - leaf.x) * c + (v - leaf.y) * s) / leaf.radius
    b = ((v - leaf.y) * c - (u - leaf.x) * s) / (leaf.radius * leaf.flat)
    if leaf.power == 2:
        f = np.sqrt(a * a + b * b)
    elif leaf.power == 1:
        f = np.abs(a) + np.abs(b)
    else:
        f = np.maximum(np.abs(a), np.abs(b))
    number, height, phase = leaf.waves
    return f * (1 + height * np.sin(number * np.arctan2(b, a) + phase)) if height else f


def fill(rng: np.random.Generator, h: int, w: int, palette: Array, field: Array) -> Array:
    """What a leaf of h x w pixels is made of, (h, w, 3)."""
    colour = palette[rng.integers(len(palette))] + rng.normal(0, 0.05, 3)
    out = np.broadcast_to(colour, (h, w, 3))
    kind = rng.random()
    if kind < 0.5:
        out = out + rng.normal(0, 0.15, 3) * ramp(rng, h, w)[..., None]
    if 0.3 < kind < 0.7:
        top, left = (rng.integers(0, max(1, n - m + 1)) for n, m in zip(field.shape, (h, w),
                                                                      strict=False))
        out = out + rng.uniform(0.02, 0.2) * field[top : top + h, left : left + w]
    elif kind > 0.85:
        out = out + rng.uniform(0.05, 0.3) * stripes(rng, h, w)[..., None]
    return out


def ramp(rng: np.random.Generator, h: int, w: int) -> Array:
    """A plane that falls in some direction, (h, w), from about -1 to 1."""
    angle = rng.uniform(0, 2 * math.pi)
    v, u = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None]
    return u * math.cos(angle) + v * math.sin(angle)


def stripes(rng: np.random.Generator, h: int, w: int) -> Array:
    """An oriented wave, smooth or square, (h, w) in [-1, 1]; sometimes two across each other."""
    v, u = np.ogrid[0:h, 0:w]
    out = np.ones((1, 1))
    for _ in range(1 + (rng.random() < 0.3)):
        angle, period = rng.uniform(0, math.pi), math.exp(rng.uniform(math.log(3), math.log(40)))
        wave = np.sin(2 * math.pi / period * (u * math.cos(angle) + v * math.sin(angle)))
        out = out * (wave if rng.random() < 0.5 else np.clip(3 * wave, -1, 1))
    return out


def power_noise(rng: np.random.Generator, side: int, exponent: float) -> Array:
    """Noise with amplitude 1 / f^exponent, partly grey, (side, side, 3), standard deviation 1."""
    f = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    f[0, 0] = 1 / side
    if rng.random() < 0.5:  # a direction in which it is stretched
        angle, stretch = rng.uniform(0, math.pi), rng.uniform(1, 6)
        along = np.fft.rfftfreq(side)[None] * math.cos(angle)
        f = np.hypot(f, stretch * (along + np.fft.fftfreq(side)[:, None] * math.sin(angle)))
    grey, colour = (rng.standard_normal((side, side, c)) for c in (1, 3))
    spectrum = np.fft.rfft2(grey + rng.uniform(0, 0.5) * colour, axes=(0, 1))
    x = np.fft.irfft2(spectrum / f[..., None] ** exponent, s=(side, side), axes=(0, 1))
    return (x - x.mean()) / x.std()


def colours(rng: np.random.Generator) -> Array:
    """A palette, (n, 3) in [0, 1]: brightness spread wide, colour mostly weak and related."""
    n = int(rng.integers(3, 10))
    grey = rng.uniform(rng.uniform(0, 0.3), rng.uniform(0.6, 1), n)[:, None]
    tint, own = rng.normal(0, rng.uniform(0, 0.1), 3), rng.normal(0, rng.uniform(0, 0.15), (n, 3))
    return np.clip(grey + tint + own, 0.01, 0.99)


def base(rng: np.random.Generator, side: int, palette: Array, field: Array) -> Array:
    """The ground: a colour, a gradient and 1/f noise, (side, side, 3)."""
    first, second = palette[rng.integers(len(palette), size=2)]
    t = 0.5 + 0.5 * ramp(rng, side, side)[..., None]
    return first + (second - first) * t + rng.uniform(0, 0.15) * field


def lay(x: Array, mask: Array, rng: np.random.Generator, palette: Array) -> None:
    """Paint a colour through a mask, (side, side) in [0, 1]."""
    colour = np.clip(palette[rng.integers(len(palette))] + rng.normal(0, 0.2, 3), 0, 1)
    x += mask[..., None] * rng.uniform(0.4, 1) * (colour - x)


def stroke_mask(rng: np.random.Generator, side: int) -> Array:
    """Curved lines side by side, as hair, grass and wires, (side, side) in [0, 1]."""
    from PIL import Image, ImageDraw

    image = Image.new("L", (2 * side, 2 * side))
    draw = ImageDraw.Draw(image)
    angle, spread = rng.uniform(0, 2 * math.pi), rng.uniform(0.05, 1.5)
    centre, scatter = rng.uniform(0, 2 * side, 2), side * rng.uniform(0.1, 0.8)
    for _ in range(rng.integers(3, 60)):
        length, steps = rng.uniform(20, side), 12
        turn = np.cumsum(rng.normal(0, 0.08, steps)) + angle + rng.normal(0, spread)
        points = rng.normal(centre, scatter) + np.cumsum(
            np.stack([np.cos(turn), np.sin(turn)], 1) * length / steps * 2, axis=0
        )
        width = int(rng.integers(1, 8))
        draw.line([(float(a), float(b)) for a, b in points], 255, width, joint="curve")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX)) / 255


def letter_mask(rng: np.random.Generator, side: int) -> Array:
    """Lines of letters, turned, (side, side) in [0, 1]."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", (side, side))
    draw = ImageDraw.Draw(image)
    size = math.exp(rng.uniform(math.log(8), math.log(60)))
    font = ImageFont.load_default(size)
    left, top = rng.uniform(0, 0.6 * side, 2)
    for line in range(rng.integers(1, 8)):
        text = "".join(rng.choice(list(LETTERS + "      "), rng.integers(3, 30)))
        draw.text((left, top + 1.3 * size * line), text, 255, font=font)
    turned = image.rotate(rng.uniform(-20, 20), Image.Resampling.BICUBIC)
    return np.asarray(turned) / 255
