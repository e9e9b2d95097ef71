"""Pictures in rows with captions, and nodes called as ComfyUI calls them."""

from __future__ import annotations

from typing import Any

import pack
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from undegrade import NODE_CLASS_MAPPINGS

SIDE, GAP, CAPTION = 192, 6, 24  # pixels
CORNER = 40, 32  # left and upper edge of what is shown of a picture of 256x256
EXAMPLE = pack.ROOT / "workflows" / "input" / "example.png"
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}

Panel = tuple[str, Tensor]
"""(caption, one IMAGE (1, h, w, C) or MASK (1, h, w) in [0, 1])."""


def example() -> Tensor:
    """The photograph that ships with the pack, IMAGE (1, 256, 256, 3)."""
    pixels = torch.frombuffer(bytearray(Image.open(EXAMPLE).convert("RGB").tobytes()),
                              dtype=torch.uint8)
    return pixels.view(1, 256, 256, 3).float() / 255


def node(name: str, **given: Any) -> tuple:
    """The outputs of node Undegrade<name>, widgets at their defaults where nothing is given."""
    cls = NODE_CLASS_MAPPINGS[f"Undegrade{name}"]
    sections = cls.INPUT_TYPES()
    values: dict[str, Any] = {}
    for key, (kind, settings) in {**sections["required"], **sections.get("optional", {})}.items():
        if isinstance(kind, list):
            values[key] = settings.get("default", kind[0])
        elif kind in WIDGETS:
            values[key] = settings["default"]
    with torch.no_grad():
        out = getattr(cls(), cls.FUNCTION)(**{**values, **given})
    return out["result"] if isinstance(out, dict) else out


def shown(picture: Tensor) -> Image.Image:
    """The panel of an IMAGE or MASK: the window of a large picture, a small one enlarged."""
    planes = picture[0] if picture.ndim == 4 else picture[0, ..., None]
    planes = planes[..., :3].expand(-1, -1, 3)
    image = Image.fromarray((planes.clamp(0, 1) * 255).round().byte().numpy())
    if image.size == (256, 256):
        return image.crop((*CORNER, CORNER[0] + SIDE, CORNER[1] + SIDE))
    if 256 > image.width >= 32 and 256 % image.width == 0:  # a reduced photograph, pixel by pixel
        return shown(picture.repeat_interleave(256 // image.width, 1)
                     .repeat_interleave(256 // image.width, 2))
    return image.resize((SIDE, SIDE), Image.Resampling.NEAREST if image.width < SIDE
                        else Image.Resampling.LANCZOS)


def strip(panels: list[Panel], columns: int = 3) -> Image.Image:
    """The panels row by row under their captions. Raises `ValueError` for one that is too wide."""
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = columns * (SIDE + GAP) - GAP, rows * (SIDE + CAPTION + GAP) - GAP
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=16)
    for k, (caption, picture) in enumerate(panels):
        x, y = k % columns * (SIDE + GAP), k // columns * (SIDE + CAPTION + GAP)
        if draw.textlength(caption, font=font) > SIDE:
            raise ValueError(f"The caption {caption!r} is wider than its picture; shorten it.")
        draw.text((x + 1, y + 2), caption, fill="black", font=font)
        sheet.paste(shown(picture), (x, y + CAPTION))
    return sheet
