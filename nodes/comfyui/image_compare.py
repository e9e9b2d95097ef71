"""Core's Compare Images, where the ComfyUI that is running has none.

The pack's workflows end in core's own node, by core's id. A ComfyUI from before it would open them
with a missing node; there the pack brings one with the same inputs, which tells the frontend the
same. Where core or another pack has the id, theirs stands.
"""

from __future__ import annotations

from torch import Tensor

from .host import comfy

NODE_ID, TITLE = "ImageCompare", "Compare Images"


class ImageCompare:
    """Shows two pictures over each other, with a slider between them."""

    DESCRIPTION = "Compares two images side by side with a slider."
    RETURN_TYPES = ()
    FUNCTION = "compare"
    OUTPUT_NODE = True
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """The picture at the left of the slider, and the one at its right."""
        return {"required": {}, "optional": {"image_a": ("IMAGE",), "image_b": ("IMAGE",)}}

    def compare(self, image_a: Tensor | None = None, image_b: Tensor | None = None) -> dict:
        """Write both as previews. image_a, image_b: (B, H, W, C) in [0, 1]."""
        write = comfy("nodes").PreviewImage().save_images
        sides = {"a_images": image_a, "b_images": image_b}
        return {"ui": {side: [] if images is None else write(images)["ui"]["images"]
                       for side, images in sides.items()}}  # fmt: skip


def lacking() -> dict[str, tuple[type, str]]:
    """Node id -> (class, title), of what the running ComfyUI has not; nothing without ComfyUI."""
    menu = comfy("nodes")
    known = getattr(menu, "NODE_CLASS_MAPPINGS", None)
    return {} if known is None or NODE_ID in known else {NODE_ID: (ImageCompare, TITLE)}
