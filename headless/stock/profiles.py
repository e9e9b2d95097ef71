"""Colour profiles: what a tagged picture shows, in sRGB, as a colour-managed viewer shows it.

8 bits go through littlecms. It takes no more in Pillow, so deeper pictures go through the profile's
own curves and matrix, which nearly all have that 16 bits are saved with.
"""

import struct
from functools import lru_cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageCms

MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # colour space of a profile -> Pillow's mode
GREY = ("1", "L", "LA")
PARAMETERS = (1, 3, 4, 5, 7)  # how many numbers a parametric curve has, by its kind


class ProfileError(ValueError):
    """A profile that says nothing about the picture; the text says why."""


def shown(frame: Image.Image, profile: bytes) -> Image.Image:
    """A picture of 8 bits as RGB, what it shows by its profile; as it is where that is sRGB's.

    Raises:
        ProfileError: the profile is damaged or for another kind of picture.
    """
    space = _space(profile)
    fits = {"RGB": frame.mode not in ("CMYK", "LAB"), "GRAY": frame.mode in GREY,
            "CMYK": frame.mode == "CMYK"}
    if not fits.get(space, False):
        raise ProfileError(f"it is for {space} and the picture is {frame.mode}")
    change = _transform(profile, MODES[space])
    if change is None:
        return frame.convert("RGB")
    return _applied(frame.convert(MODES[space]), change)


def lab_shown(frame: Image.Image) -> Image.Image:
    """A CIE L*a*b* picture (D50) as RGB."""
    lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return _applied(frame, ImageCms.buildTransform(lab, rgb, "LAB", "RGB"))


def deep_shown(values: np.ndarray, profile: bytes) -> np.ndarray:
    """Values (H, W, 1 or 3) in [0, 1] in a profile's space -> (H, W, 3) in sRGB.

    Raises:
        ProfileError: the profile is damaged, for another kind of picture, or made of tables.
    """
    space, grey = _space(profile), values.shape[-1] == 1
    if space not in ("RGB", "GRAY") or (space == "GRAY" and not grey):
        raise ProfileError(f"it is for {space} and the picture is {'grey' if grey else 'RGB'}")
    wide = values if space == "GRAY" else np.broadcast_to(values, (*values.shape[:2], 3))
    if _transform(profile, MODES[space]) is None:
        return np.broadcast_to(wide, (*wide.shape[:2], 3))
    try:
        tags = _tags(profile)
        if "A2B0" in tags:
            raise ProfileError("it is made of tables, which are applied to 8 bits only; convert "
                               "the picture to sRGB in another program")
        names = "k" if space == "GRAY" else "rgb"
        linear = [_curve(tags[f"{c}TRC"], wide[..., i]) for i, c in enumerate(names)]
        light = np.stack(linear * (4 - len(names)) if space == "GRAY" else linear, -1)[..., :3]
        if space == "RGB":
            own = _tags(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
            light = light @ (np.linalg.inv(_matrix(own)) @ _matrix(tags)).T
    except (KeyError, IndexError, struct.error) as error:
        raise ProfileError("it is damaged") from error
    light = light.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _space(profile: bytes) -> str:
    try:
        known: Any = ImageCms.ImageCmsProfile(BytesIO(profile)).profile
        return known.xcolor_space.strip()
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError("it is damaged") from error


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """From a profile to sRGB; None where no colour moves by more than one level of 8 bits."""
    try:
        change = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        raise ProfileError("it is damaged") from error
    if mode == "CMYK":
        return change
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    lattice = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    probe = Image.fromarray(ramp if mode == "L" else lattice)
    moved = np.asarray(_applied(probe, change)).astype(int) - np.asarray(probe.convert("RGB"))
    return None if abs(moved).max() <= 1 else change


def _applied(frame: Image.Image, change: ImageCms.ImageCmsTransform) -> Image.Image:
    made = ImageCms.applyTransform(frame, change)
    assert made is not None
    return made


def _tags(profile: bytes) -> dict[str, bytes]:
    """Name -> content of every tag of an ICC profile."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * i) for i in range(min(count, 200)))
    return {name.decode("latin-1"): profile[at:at + size] for name, at, size in entries}


def _matrix(tags: dict[str, bytes]) -> np.ndarray:
    """Linear RGB -> XYZ under D50."""
    columns = [struct.unpack_from(">3i", tags[f"{c}XYZ"], 8) for c in "rgb"]
    return np.array(columns).T / 65536


def _curve(tag: bytes, x: np.ndarray) -> np.ndarray:
    """A tone curve: a gamma, a table, or one of the five parametric kinds."""
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        table = np.array(struct.unpack_from(f">{count}H", tag, 12))
        if count < 2:
            return x ** (table[0] / 256) if count else x
        return np.interp(x, np.linspace(0, 1, count), table / 65535)
    if tag[:4] != b"para":
        raise KeyError(tag[:4])
    (kind,) = struct.unpack_from(">H", tag, 8)
    given = np.array(struct.unpack_from(f">{PARAMETERS[kind]}i", tag, 12)) / 65536
    g, a, b, c, d, e, f = {
        0: lambda: (given[0], 1, 0, 0, 0, 0, 0),
        1: lambda: (*given, 0, -given[2] / given[1], 0, 0),
        2: lambda: (*given[:3], 0, -given[2] / given[1], given[3], given[3]),
        3: lambda: (*given, 0, 0),
        4: lambda: tuple(given),
    }[kind]()
    return np.where(x >= d, (a * x + b).clip(0) ** g + e, c * x + f)
