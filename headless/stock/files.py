"""Loading and saving pictures: LoadImage, LoadImageMask, SaveImage, PreviewImage, MaskPreview."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..folders import Folders, Source, fill_in_widgets

CHANNELS = ("alpha", "red", "green", "blue")
NO_MASK = (64, 64)  # the size of the empty mask of a picture without alpha


class LoadImage:
    """A picture file as IMAGE (B, H, W, 3) in [0, 1] and MASK (B, H, W), 1 where transparent.

    Frames of an animation become a batch. Without alpha the mask is zeros of 64x64.
    """

    folders: Folders
    RETURN_TYPES: tuple[str, ...] = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The file's name; which files there are is asked when the workflow is checked."""
        return {"required": {"image": ([], {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: Any) -> bool | str:
        """Whether the file is there."""
        if image is None:
            return True  # linked, hence not known yet
        if not isinstance(image, str):
            return f"input 'image' takes a file name, not {image!r}"
        try:
            cls.folders.find(image)
        except FileNotFoundError as error:
            return str(error)
        return True

    def load_image(self, image: str) -> tuple[Tensor, Tensor]:
        """Read every frame that has the size of the first."""
        frames = read_frames(self.folders.find(image))
        frames = [frame for frame in frames if frame.size == frames[0].size]
        pixels = torch.stack([_tensor(frame) for frame in frames])
        masks = [_alpha(frame) for frame in frames]
        return pixels, torch.stack([torch.zeros(NO_MASK) if m is None else 1 - m for m in masks])


class LoadImageMask(LoadImage):
    """One channel of a picture file as MASK (1, H, W); alpha is inverted, as in LoadImage."""

    RETURN_TYPES = ("MASK",)
    CATEGORY = "mask"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The file's name and which channel."""
        return {"required": {"image": ([], {"image_upload": True}), "channel": (list(CHANNELS),)}}

    def load_image(self, image: str, channel: str) -> tuple[Tensor]:  # type: ignore[override]
        """Read the first frame's channel; a picture without alpha is opaque."""
        frame = read_frames(self.folders.find(image))[0]
        if channel == "alpha":
            alpha = _alpha(frame)
            return (torch.zeros(1, *reversed(frame.size)) if alpha is None else 1 - alpha[None],)
        return (_tensor(frame)[None, ..., CHANNELS.index(channel) - 1],)


class SaveImage:
    """Writes IMAGE (B, H, W, 1, 3 or 4), clipped to [0, 1], as PNGs that carry the workflow.

    Hands the pictures on as they came, as ComfyUI does since 0.33; 0.3.64 hands on nothing.
    """

    folders: Folders
    RETURN_TYPES: tuple[str, ...] = ("IMAGE",)
    RETURN_NAMES: tuple[str, ...] = ("images",)
    FUNCTION = "save_images"
    OUTPUT_NODE = True
    CATEGORY = "image"
    KIND = "output"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The pictures and the beginning of their names."""
        return {"required": {"images": ("IMAGE",),
                             "filename_prefix": ("STRING", {"default": "ComfyUI"})},
                "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}}

    def save_images(self, images: Tensor, filename_prefix: str = "ComfyUI",
                    prompt: Mapping | None = None, extra_pnginfo: Mapping | None = None) -> dict:
        """Write the batch as prefix_00001_.png and on; each file appears whole or not at all."""
        if images.ndim != 4 or images.shape[-1] not in (1, 3, 4):
            raise ValueError(f"expected pictures of shape (B, H, W, 1, 3 or 4), got "
                             f"{tuple(images.shape)}")
        temporary = self.KIND == "temp"
        place = self.folders.place(fill_in_widgets(filename_prefix, prompt),
                                   (images.shape[2], images.shape[1]), temporary)
        chunks = PngInfo()
        for name, value in {"prompt": prompt, **(extra_pnginfo or {})}.items():
            if value is not None:
                chunks.add_text(name, json.dumps(value))
        shown = []
        for index, image in enumerate(images):
            picture = _picture(image)
            save = partial(picture.save, format="PNG", pnginfo=chunks,
                           compress_level=1 if temporary else 4)
            path = self.folders.write(place.files(index), save)
            shown.append({"filename": path.name, "subfolder": place.subfolder, "type": self.KIND})
        return {"ui": {"images": shown}, "result": (images,)}


class PreviewImage(SaveImage):
    """Writes pictures to the folder of previews."""

    KIND = "temp"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The pictures."""
        return {"required": {"images": ("IMAGE",)}, "hidden": SaveImage.INPUT_TYPES()["hidden"]}


class ImageCompare(PreviewImage):
    """Writes the two pictures that ComfyUI shows with a slider to the folder of previews."""

    FUNCTION = "compare"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The pictures; `compare_view` is the slider itself."""
        return {"required": {}, "hidden": SaveImage.INPUT_TYPES()["hidden"],
                "optional": {"image_a": ("IMAGE",), "image_b": ("IMAGE",),
                             "compare_view": ("IMAGECOMPARE",)}}

    def compare(self, image_a: Tensor | None = None, image_b: Tensor | None = None,
                compare_view: object = None, prompt: Mapping | None = None,
                extra_pnginfo: Mapping | None = None) -> dict:
        """Write what is connected."""
        sides, shown = {"a": image_a, "b": image_b}, {}
        for side, images in sides.items():
            if images is not None:
                saved = self.save_images(images, f"comfy.compare.{side}", prompt, extra_pnginfo)
                shown[f"{side}_images"] = saved["ui"]["images"]
        return {"ui": shown}


class MaskPreview(SaveImage):
    """Writes masks (B, H, W) as grey pictures to the folder of previews."""

    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    FUNCTION = "save_mask"
    CATEGORY = "mask"
    KIND = "temp"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The masks."""
        return {"required": {"mask": ("MASK",)}, "hidden": SaveImage.INPUT_TYPES()["hidden"]}

    def save_mask(self, mask: Tensor, prompt: Mapping | None = None,
                  extra_pnginfo: Mapping | None = None) -> dict:
        """Show each mask in three equal channels."""
        grey = mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)
        shown = self.save_images(grey, prompt=prompt, extra_pnginfo=extra_pnginfo)
        return {**shown, "result": (mask,)}


def read_frames(path: Source) -> list[Image.Image]:
    """Every frame of a picture file, turned as its EXIF says; of an MPO only the first.

    Raises:
        ValueError: not a picture, or a truncated one.
    """
    try:
        with Image.open(path) as file:
            frames = [ImageOps.exif_transpose(f.copy()) for f in ImageSequence.Iterator(file)]
            return frames[:1] if file.format == "MPO" else frames
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError,
            Image.DecompressionBombError) as error:
        why = "no picture format is recognised in it" if isinstance(error, UnidentifiedImageError) \
            else str(error).rstrip(".")
        raise ValueError(f"cannot read {path} as a picture: {why}; open it in another program, or "
                         "save it again as PNG or JPEG.") from error


def _tensor(frame: Image.Image) -> Tensor:
    """A frame as float32 (H, W, 3) in [0, 1]; integer modes beyond 8 bits count to 65535."""
    if frame.mode == "I" or frame.mode.startswith("I;16"):
        grey = np.clip(np.asarray(frame.convert("I")).astype(np.float32) / 65535, 0, 1)
        return torch.from_numpy(grey)[..., None].repeat(1, 1, 3)
    return torch.from_numpy(np.asarray(frame.convert("RGB")).astype(np.float32) / 255)


def _alpha(frame: Image.Image) -> Tensor | None:
    """The opacity (H, W) in [0, 1], or None where the frame has none."""
    if frame.mode == "P" and "transparency" in frame.info:
        frame = frame.convert("RGBA")
    if "A" not in frame.getbands():
        return None
    return torch.from_numpy(np.asarray(frame.getchannel("A")).astype(np.float32) / 255)


def _picture(image: Tensor) -> Image.Image:
    """A picture (H, W, C) as 8 bits: clipped and, as ComfyUI does, cut to whole numbers."""
    pixels = (image.detach().float().cpu() * 255).clamp(0, 255).numpy().astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


NODES = {"LoadImage": LoadImage, "LoadImageMask": LoadImageMask, "SaveImage": SaveImage,
         "PreviewImage": PreviewImage, "ImageCompare": ImageCompare, "MaskPreview": MaskPreview}
TITLES = {"LoadImage": "Load Image", "LoadImageMask": "Load Image (as Mask)",
          "SaveImage": "Save Image", "PreviewImage": "Preview Image",
          "ImageCompare": "Compare Images"}
