"""Scratches found, and what fills them made to look like the rest."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.scratch_finder import built_in
from ...pipelines.noise import per_sample_noise
from ...pipelines.photograph.grain import with_grain
from ...pipelines.photograph.scratches import ScratchOptions, scratches
from ..comfyui import host
from ..images import given, to_image, to_mask, to_pixels, to_planes
from ..scores import for_batch
from ..widgets import SEED, socket, widgets_of

CATEGORY = "Undegrade/photographs"


class FindScratches:
    """IMAGE -> MASK of scratches and dust."""

    DESCRIPTION = (
        "Finds thin streaks, folds and dust on a scanned photograph, bright or dark, as a mask for "
        "Inpainting Mask. Look at the mask before you use it: thin things of the picture itself, "
        "such as wires, whiskers and highlights, may be among them."
    )
    SEARCH_ALIASES = (
        "scratch", "dust", "old photo", "crease", "fold", "scan", "restore photo", "划痕", "老照片",
    )  # fmt: skip
    CATEGORY = CATEGORY
    FUNCTION = "find"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("1 on scratches and a pixel around them, 0 elsewhere.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        image = socket("IMAGE", "The scanned photograph, of any size.")
        return {"required": {"image": image, **widgets_of(ScratchOptions)}}

    def find(self, image: Tensor, **options: Any) -> tuple[Tensor]:
        """A mask for each picture."""
        pixels, _ = to_pixels(image)
        finder = built_in()
        host.place([finder.network], host.device())
        found = scratches(pixels.to(host.device()), ScratchOptions(**options), finder)
        return (to_mask(found.cpu()),)


class MatchGrain:
    """IMAGE, reference IMAGE, MASK -> IMAGE."""

    DESCRIPTION = (
        "Gives a filled place the grain of what lies around it, so that it does not show as a "
        "smooth patch. Outside of the mask the result is the reference, bit for bit."
    )
    SEARCH_ALIASES = ("grain", "film grain", "add noise", "smooth patch", "heal", "composite")
    CATEGORY = CATEGORY
    FUNCTION = "match"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The filled picture with grain inside the mask, the reference outside.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        mask = (
            "1 where the picture was filled, one for all pictures or one each; values between "
            "blend. Grain is measured within 32 pixels around it."
        )
        return {
            "required": {
                "image": socket("IMAGE", "The filled picture."),
                "reference": socket("IMAGE", "The picture as it came, of the same size."),
                "mask": socket("MASK", mask),
                "seed": SEED,
            }
        }

    def match(self, image: Tensor, reference: Tensor, mask: Tensor, seed: int) -> tuple[Tensor]:
        """Grain inside; the reference's own values outside, alpha included."""
        filled, _ = to_pixels(image)
        around, layout = to_pixels(reference, "reference")
        planes = to_planes(mask).clamp(0, 1).to(filled.device)
        around = around.to(filled.device)
        check_sizes(filled, around, planes)
        around = for_batch(around, len(filled))
        planes = for_batch(planes, len(filled))
        noise = per_sample_noise([seed + b for b in range(len(filled))])
        done = to_image(with_grain(filled, around, planes, noise), layout)
        outside = given(for_batch(reference, len(filled)))
        inside = (planes > 0).movedim(1, -1).to(done.device)
        return (torch.where(inside, done, outside),)


def check_sizes(filled: Tensor, reference: Tensor, mask: Tensor) -> None:
    """Raise `ValueError` unless all three are of one size."""
    sizes = [f"{x.shape[-1]}x{x.shape[-2]}" for x in (filled, reference, mask)]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"image is {sizes[0]} pixels, reference {sizes[1]} and mask {sizes[2]}; give all three "
            "in one size."
        )
