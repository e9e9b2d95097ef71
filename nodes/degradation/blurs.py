"""Blur nodes: an operator, and its kernel as IMAGE where it has one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...models.kernel_embedding import load_kernel_wizard
from ...models.known_files import BLURS
from ...pipelines.operators.blur import Blur, GaussianBlur, KernelBlur
from ...pipelines.operators.contract import Operator
from ...pipelines.operators.motion_blur import RandomMotionBlur, StraightMotionBlur
from ...pipelines.operators.nonlinear_blur import NonlinearBlur
from ...pipelines.options import describe
from ..comfyui import host
from ..images import to_image, to_pixels
from ..published import published_files, published_path
from ..widgets import socket, widgets_of
from .operators import CATEGORY, OPERATOR_TOOLTIP

KERNEL_TOOLTIP = "The blur kernel as a picture, its largest value white."
BORDER = widgets_of(GaussianBlur)["border"]

host.register_folder(BLURS)


class BlurNode:
    """What the blur nodes share: the operator and its kernel as IMAGE."""

    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("DEGRADATION_OPERATOR", "IMAGE")
    RETURN_NAMES = ("operator", "kernel")
    OUTPUT_TOOLTIPS = (OPERATOR_TOOLTIP, KERNEL_TOOLTIP)


class GaussianBlurNode(BlurNode):
    """Widgets -> GaussianBlur."""

    DESCRIPTION = "Out of focus, roughly: convolution with a Gaussian."
    SEARCH_ALIASES = ("defocus", "out of focus", "soften")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {"required": widgets_of(GaussianBlur)}

    def make(self, **options: Any) -> tuple[Operator, Tensor]:
        """The operator and its kernel."""
        return with_kernel(GaussianBlur(**options))


class MotionBlurNode(BlurNode):
    """Widgets -> StraightMotionBlur or RandomMotionBlur."""

    DESCRIPTION = "A moving camera: a straight line of some length and angle, or a random walk."
    SEARCH_ALIASES = ("camera shake", "shaken", "streak")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets of both kinds of path."""
        path = (["random walk", "straight"], {"default": "random walk", "tooltip": PATH_TOOLTIP})
        both = widgets_of(RandomMotionBlur) | widgets_of(StraightMotionBlur)
        shared = {name: both.pop(name) for name in ("border", "seed")}
        return {"required": {"path": path, **both, **shared}}

    def make(self, path: str, **options: Any) -> tuple[Operator, Tensor]:
        """The operator of the chosen path, and its kernel."""
        cls = RandomMotionBlur if path == "random walk" else StraightMotionBlur
        return with_kernel(cls(**{name: options[name] for name in describe(cls)}))


PATH_TOOLTIP = (
    "'random walk' is a shaken camera, drawn from kernel size, intensity and seed; 'straight' a "
    "line, drawn from length and angle. The other path's widgets are not used."
)


TURNED_TOOLTIP = (
    "Turn the kernel by 180 degrees: many programs and papers give it that way round. Where the "
    "restored picture only rings, try the other way."
)


class KernelBlurNode(BlurNode):
    """IMAGE -> KernelBlur."""

    DESCRIPTION = (
        "Convolution with a kernel of yours, such as the picture of a star or a lens's point "
        "spread."
    )
    SEARCH_ALIASES = ("PSF", "point spread function", "deconvolution", "custom blur")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tooltip = (
            "The kernel, of any size: black is continued around it to an odd square. Colours are "
            "averaged, and its sum is made 1."
        )
        turned = {"default": False, "tooltip": TURNED_TOOLTIP}
        return {
            "required": {"kernel": socket("IMAGE", tooltip), "border": BORDER},
            "optional": {"turned": ("BOOLEAN", turned)},
        }

    def make(self, kernel: Tensor, border: str, turned: bool = False) -> tuple[Operator, Tensor]:
        """The operator and its kernel."""
        pixels, _ = to_pixels(kernel, "kernel")
        if pixels.shape[0] != 1:
            raise ValueError(f"kernel is a batch of {pixels.shape[0]} pictures; give a single one.")
        weights = (pixels[0].mean(0) + 1) / 2
        weights = weights.flip(0, 1) if turned else weights
        return with_kernel(KernelBlur(border=border, weights=weights))


class NonlinearBlurNode:
    """Weight file -> NonlinearBlur."""

    DESCRIPTION = (
        "The nonlinear blur of moving scenes (Tran et al., CVPR 2021), as a trained network. "
        "Needs its published weights GOPRO_wVAE.pth in models/blur_networks."
    )
    SEARCH_ALIASES = ("GoPro", "kernel embedding", "dynamic blur")
    CATEGORY = CATEGORY
    FUNCTION = "make"
    RETURN_TYPES = ("DEGRADATION_OPERATOR",)
    RETURN_NAMES = ("operator",)
    OUTPUT_TOOLTIPS = (OPERATOR_TOOLTIP,)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        tooltip = "GOPRO_wVAE.pth of blur-kernel-space-exploring, in models/blur_networks."
        file = (blur_files(), {"tooltip": tooltip})
        return {"required": {"file": file, **widgets_of(NonlinearBlur)}}

    @classmethod
    def VALIDATE_INPUTS(cls, file: str) -> bool | str:
        """A listed name; on the command line any path."""
        return host.listed("file", file, blur_files(), BLURS)

    def make(self, file: str, **options: Any) -> tuple[Operator]:
        """The operator, its network on the CPU: nodes that run it bring it to the pictures."""
        return (NonlinearBlur(load_kernel_wizard(published_path(BLURS, file)), **options),)


def blur_files() -> list[str]:
    """The user's files and the published ones by their names."""
    return published_files(BLURS)


def with_kernel(blur: Blur) -> tuple[Operator, Tensor]:
    """The operator, and its kernel as a grey IMAGE whose largest value is 1."""
    return blur, kernel_image(blur.kernel())


def kernel_image(k: Tensor) -> Tensor:
    """A kernel as a grey IMAGE whose largest value is 1."""
    grey = (k / k.max()).expand(1, 3, *k.shape)
    return to_image(2 * grey.to(torch.float32) - 1)
