"""Scratches found, holes filled, and what fills them made to look like the rest."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...models.scratch_finder import built_in
from ...pipelines.noise import per_sample_noise
from ...pipelines.photograph.exemplars import FillOptions, completed
from ...pipelines.photograph.grain import with_grain
from ...pipelines.photograph.scratches import ScratchOptions, scratches
from ..comfyui import host
from ..images import given, to_image, to_mask, to_pixels, to_planes, to_preview, visible
from ..scores import for_batch
from ..widgets import SEED, seed, socket, widgets_of

CATEGORY = "Undegrade/photographs"
SPARED = (
    "Above 0 where nothing is copied from, one for all pictures or one each: faces or like "
    "objects near the hole, which would be put into it again."
)


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


class FillFromSurroundings:
    """IMAGE, MASK -> IMAGE."""

    DESCRIPTION = (
        "Fills what a mask covers with patches of the same picture, put together so that they "
        "agree: fur, grass, wood, brick and sky go on. Needs no model and a few seconds. It "
        "continues what is around the hole, and knows nothing of objects. Outside of the mask "
        "every pixel stays."
    )
    SEARCH_ALIASES = (
        "remove object", "erase", "heal", "inpaint", "content-aware fill", "patch match", "clone",
        "texture", "去除物体", "修复", "填充",
    )  # fmt: skip
    CATEGORY = CATEGORY
    FUNCTION = "fill"
    RETURN_TYPES = ("IMAGE",)
    RETURN_NAMES = ("image",)
    OUTPUT_TOOLTIPS = ("The picture with the hole filled; outside of it the picture as it came.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        mask = (
            "Above 0 where the picture is filled, one for all pictures or one each. Cover the "
            "whole object with its shadow: what is left of it is copied into the hole."
        )
        return {
            "required": {
                "image": socket("IMAGE", "The picture: grey, RGB or RGBA, of any size."),
                "mask": socket("MASK", mask),
                **widgets_of(FillOptions),
                "seed": seed(
                    "Random seed; picture b of a batch uses seed + b. Another one fills the hole "
                    "with something else of the picture."
                ),
            },
            "optional": {"do_not_copy": socket("MASK", SPARED)},
        }

    def fill(
        self, image: Tensor, mask: Tensor, seed: int, do_not_copy: Tensor | None = None,
        **options: Any,
    ) -> tuple[Tensor]:
        """Every picture by itself; one without a hole comes back as it was."""
        pixels, layout = to_pixels(image)
        pixels, planes = visible(pixels, layout).to(host.device()), to_planes(mask)
        check_sizes(image=pixels, mask=planes)
        holes = for_batch(planes, len(pixels), "mask")[:, 0].to(pixels.device) > 0
        usable = torch.ones_like(holes) if layout.alpha is None else layout.alpha[:, 0] > 0
        if do_not_copy is not None:
            spared = to_planes(do_not_copy, "do_not_copy")
            check_sizes(image=pixels, do_not_copy=spared)
            spared = for_batch(spared, len(pixels), "do_not_copy")[:, 0] > 0
            usable = usable.cpu() & ~spared.cpu()
        chosen = FillOptions(**options)
        progress = host.Progress(100 * len(pixels), "Fill From Surroundings")
        for b, hole in enumerate(holes):
            if hole.any():
                there = usable[b].to(pixels.device)
                one, stop = pixels[b : b + 1], host.check_interrupted
                for share, picture in completed(one, hole, there, chosen, seed + b, stop):
                    progress.reach(100 * b + int(100 * share))
                    progress.show(partial(to_preview, picture))
                pixels[b] = picture[0]
            progress.reach(100 * (b + 1))
        done, outside = to_image(pixels, layout), given(image)
        return (torch.where(holes[..., None].to(done.device), done, outside),)


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
        check_sizes(image=filled, reference=around, mask=planes)
        around = for_batch(around, len(filled))
        planes = for_batch(planes, len(filled))
        noise = per_sample_noise([seed + b for b in range(len(filled))])
        done = to_image(with_grain(filled, around, planes, noise), layout)
        outside = given(for_batch(reference, len(filled)))
        inside = (planes > 0).movedim(1, -1).to(done.device)
        return (torch.where(inside, done, outside),)


def check_sizes(**given: Tensor) -> None:
    """Raise `ValueError` unless all are of one size."""
    sizes = {name: f"{x.shape[-1]}x{x.shape[-2]}" for name, x in given.items()}
    if len(set(sizes.values())) > 1:
        (first, size), *between, (last, its) = sizes.items()
        said = "".join(f", {name} {other}" for name, other in between)
        raise ValueError(
            f"{first} is {size} pixels{said} and {last} {its}; give all in one size."
        )
