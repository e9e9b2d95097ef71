"""Frames of videos on their way through a workflow: 16 bits deep, as NumPy's own files."""

import json
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..stock.files import CHANNELS, NO_MASK, LoadImage, LoadImageMask, SaveImage
from .coding import WHITE
from .in_memory import FrameSource


class LoadFrame(LoadImage):
    """LoadImage that reads frames, too."""

    def load_image(self, image: str, prompt: Mapping | None = None,
                   unique_id: str = "") -> tuple[Tensor, Tensor]:
        """The frame, or the pictures of a file."""
        source = self.folders.find(image)
        if not isinstance(source, FrameSource):
            return super().load_image(image, prompt, unique_id)
        return _tensor(source)[None], torch.zeros(1, *NO_MASK)


class LoadFrameMask(LoadImageMask):
    """LoadImageMask that reads frames, too; they are opaque."""

    def load_image(self, image: str, channel: str) -> tuple[Tensor]:  # type: ignore[override]
        """One channel of the frame, or of a file's first picture."""
        source = self.folders.find(image)
        if not isinstance(source, FrameSource):
            return super().load_image(image, channel)
        pixels = _tensor(source)
        if channel == "alpha":
            return (torch.zeros(1, *pixels.shape[:2]),)
        return (pixels[None, ..., CHANNELS.index(channel) - 1],)


class SaveFrame(SaveImage):
    """SaveImage that keeps 16 bits of what is made of a frame."""

    def save_images(self, images: Tensor, filename_prefix: str = "ComfyUI",
                    prompt: Mapping | None = None, extra_pnginfo: Mapping | None = None,
                    unique_id: str = "") -> dict:
        """Keep the pictures with what made them."""
        memory: Any = self.folders
        if not memory.current.picture.is_frame:
            return super().save_images(images, filename_prefix, prompt, extra_pnginfo, unique_id)
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise ValueError(f"expected frames of shape (B, H, W, 1 or 3), got "
                             f"{tuple(images.shape)}; a video keeps no transparency")
        text = json.dumps({"prompt": prompt, **(extra_pnginfo or {})})
        for image in images:
            pixels = (image.detach().float().cpu().clamp(0, 1) * WHITE).round().numpy()
            colour = np.broadcast_to(pixels.astype(np.uint16), (*pixels.shape[:2], 3))
            memory.keep(packed({"pixels": colour, "text": np.array(text)}))
        return {"ui": {"images": []}, "result": (images,)}


def packed(arrays: Mapping[str, Any], squeeze: bool = False) -> bytes:
    """Arrays as one file; the same arrays give the same bytes."""
    stream, write = BytesIO(), np.savez_compressed if squeeze else np.savez
    write(stream, **arrays)
    return stream.getvalue()


def _tensor(source: BytesIO) -> Tensor:
    with np.load(source) as arrays:
        return torch.from_numpy(arrays["pixels"].astype(np.float32) / WHITE)


NODES: dict[str, type] = {"LoadImage": LoadFrame, "LoadImageMask": LoadFrameMask,
                          "SaveImage": SaveFrame}
