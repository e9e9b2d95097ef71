"""Loading and saving pictures: LoadImage, LoadImageMask, SaveImage, PreviewImage, MaskPreview."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ..folders import Folders, fill_in_widgets
from .metadata import kept, origin
from .reading import TOLD, Frame, read_frames
from .writing import writer

CHANNELS = ("alpha", "red", "green", "blue")
HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
FAINT = 2 / 255  # between the channels, in the mean: what a network leaves of colour in grey
MARK = 32 / 255  # and anywhere: a small coloured mark is little in the mean
NO_MASK = (64, 64)  # the size of the empty mask of a picture without alpha


class LoadImage:
    """A picture file as IMAGE (B, H, W, 3) in [0, 1] and MASK (B, H, W), 1 where transparent.

    Frames of an animation become a batch. Without alpha the mask is zeros of 64x64. In a run in
    which nothing takes the mask, what is transparent goes on as the IMAGE's fourth channel.
    """

    folders: Folders
    RETURN_TYPES: tuple[str, ...] = ("IMAGE", "MASK")
    FUNCTION = "load_image"
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The file's name; which files there are is asked when the workflow is checked."""
        return {"required": {"image": ([], {"image_upload": True})},
                "hidden": {"prompt": "PROMPT", "unique_id": "UNIQUE_ID"}}

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

    def load_image(self, image: str, prompt: Mapping | None = None,
                   unique_id: str = "") -> tuple[Tensor, Tensor]:
        """Read every frame that has the size of the first; others are left out, as in ComfyUI."""
        frames = read_frames(self.folders.find(image))
        alike = [frame for frame in frames if frame.size == frames[0].size]
        if len(alike) < len(frames):
            TOLD.warning("%s: %d of its %d pictures left out; their sizes are not the first "
                         "one's.", image, len(frames) - len(alike), len(frames))
        pixels = torch.stack([torch.from_numpy(frame.colours) for frame in alike])
        if any(frame.deep for frame in alike):
            self.folders.deep.add(image)
        if all(frame.grey for frame in alike):
            self.folders.grey.add(image)
        clear = any(frame.alpha is not None for frame in alike)
        masks = torch.stack([_mask(f, f.size if clear else NO_MASK) for f in alike])
        if clear and prompt and bool((masks > 0).any()) and not _is_read(prompt, unique_id, 1):
            pixels = torch.cat((pixels, 1 - masks[..., None]), -1)
        return pixels, masks


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
            return (_mask(frame, frame.size)[None],)
        return (torch.from_numpy(frame.colours)[None, ..., CHANNELS.index(channel) - 1],)


class SaveImage:
    """Writes IMAGE (B, H, W, 1, 3 or 4), clipped to [0, 1], as PNGs that carry the workflow,
    or as what else is asked for, with 16 bits where the file it was made from has them, and grey
    where that file is and nothing gave the picture colours (`FAINT`).

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
                "hidden": {**HIDDEN, "unique_id": "UNIQUE_ID"}}

    def save_images(self, images: Tensor, filename_prefix: str = "ComfyUI",
                    prompt: Mapping | None = None, extra_pnginfo: Mapping | None = None,
                    unique_id: str = "") -> dict:
        """Write the batch as prefix_00001_.png and on; each file appears whole or not at all.

        Resolution and EXIF of the file that the pictures were made from go with them.
        """
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
        file, shown = origin(prompt, unique_id), []
        options = self._kept(file, (images.shape[2], images.shape[1])) if file else {}
        deep = file in self.folders.deep and not temporary
        grey = file in self.folders.grey and not temporary
        for index, image in enumerate(images):
            image = _without_colours(image) if grey else image
            save = writer(image, place.ending, deep, chunks, options, fast=temporary)
            path = self.folders.write(place, index, save)
            below = place.subfolder if path.parent == place.folder else str(path.parent)
            shown.append({"filename": path.name, "subfolder": below, "type": self.KIND})
        return {"ui": {"images": shown}, "result": (images,)}

    def _kept(self, file: str, size: tuple[int, int]) -> dict[str, Any]:
        try:
            return kept(self.folders.find(file), size)
        except FileNotFoundError as error:  # taken away since it was loaded; the work is not lost
            TOLD.warning("%s; its resolution and EXIF are not kept.", error)
            return {}


class PreviewImage(SaveImage):
    """Writes pictures to the folder of previews."""

    KIND = "temp"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The pictures."""
        return {"required": {"images": ("IMAGE",)}, "hidden": dict(HIDDEN)}


class ImageCompare(PreviewImage):
    """Writes the two pictures that ComfyUI shows with a slider to the folder of previews."""

    FUNCTION = "compare"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The pictures; `compare_view` is the slider itself."""
        return {"required": {}, "hidden": dict(HIDDEN),
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
        return {"required": {"mask": ("MASK",)}, "hidden": dict(HIDDEN)}

    def save_mask(self, mask: Tensor, prompt: Mapping | None = None,
                  extra_pnginfo: Mapping | None = None) -> dict:
        """Show each mask in three equal channels."""
        grey = mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)
        shown = self.save_images(grey, prompt=prompt, extra_pnginfo=extra_pnginfo)
        return {**shown, "result": (mask,)}


def _mask(frame: Frame, size: tuple[int, int]) -> Tensor:
    """1 where a frame is transparent; of this size where it is opaque."""
    return torch.zeros(size) if frame.alpha is None else 1 - torch.from_numpy(frame.alpha)


def _without_colours(image: Tensor) -> Tensor:
    """A picture (H, W, 3 or 4) as (H, W, 1 or 2), where its three colours are alike; alpha
    stays."""
    colours, alpha = image[..., :3], image[..., 3:]
    apart = colours.amax(-1) - colours.amin(-1)
    if image.shape[-1] < 3 or apart.mean() > FAINT or apart.max() > MARK:
        return image
    grey = colours.double().mean(-1, keepdim=True).float()  # of three equal ones it is each
    return torch.cat((grey, alpha), -1)


def _is_read(prompt: Mapping, node_id: str, slot: int) -> bool:
    """Whether anything takes an output."""
    return any([str(node_id), slot] == [str(value[0]), value[1]]
               for node in prompt.values() for value in node["inputs"].values()
               if isinstance(value, list) and len(value) == 2)


NODES = {"LoadImage": LoadImage, "LoadImageMask": LoadImageMask, "SaveImage": SaveImage,
         "PreviewImage": PreviewImage, "ImageCompare": ImageCompare, "MaskPreview": MaskPreview}
TITLES = {"LoadImage": "Load Image", "LoadImageMask": "Load Image (as Mask)",
          "SaveImage": "Save Image", "PreviewImage": "Preview Image",
          "ImageCompare": "Compare Images"}
