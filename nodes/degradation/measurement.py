"""Nodes that make a measurement: a degraded picture together with how it was degraded."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import Tensor

from ...pipelines.degradation.masks import BoxMask, RandomMask
from ...pipelines.measurement import Measurement, simulate
from ...pipelines.noise import damage_seed, per_sample_noise
from ...pipelines.operators.contract import Operator
from ...pipelines.photograph.noise_curve import LEAST, noise_of
from ...pipelines.photograph.noise_level import estimate_noise_level
from ..images import Layout, PictureMeasurement, to_image, to_mask, to_pixels, visible
from ..widgets import SEED, Widget, expect, seed, socket, widgets_of
from .operators import beside

CATEGORY = "Undegrade/degradation"
CONNECT_OPERATOR = "a degradation such as Gaussian Blur"
NOISE_LEVEL: Widget = (
    "FLOAT",
    {
        "default": 0.05,
        "min": 0.0,
        "max": 2.0,
        "step": 0.005,
        "round": False,
        "tooltip": "Standard deviation of the noise, with pixels from -1 to 1: 0.05 is 6.4 of 255. "
        "It says how far the picture is trusted, so it must be above 0; 0.01 suits a clean one.",
    },
)


class DegradeImage:
    """IMAGE, operator -> degraded IMAGE, MEASUREMENT."""

    DESCRIPTION = (
        "Degrades a good picture with a known operator and Gaussian noise: y = A(x) + noise. For "
        "trying methods out where the answer is known; for a picture that is already broken use "
        "Measurement From Image."
    )
    SEARCH_ALIASES = ("simulate", "blur image", "add noise", "synthetic degradation")
    CATEGORY = CATEGORY
    FUNCTION = "degrade"
    RETURN_TYPES = ("IMAGE", "MEASUREMENT")
    RETURN_NAMES = ("image", "measurement")
    OUTPUT_TOOLTIPS = (
        "The degraded picture, clipped for viewing.",
        "The degraded picture as measured (not clipped), with its operator and noise level.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "image": socket("IMAGE", "The good picture. Grey, RGB and RGBA of any size."),
                "operator": socket("DEGRADATION_OPERATOR", "How the picture is degraded."),
                "noise_level": NOISE_LEVEL,
                "seed": SEED,
            }
        }

    def degrade(
        self, image: Tensor, operator: Operator, noise_level: float, seed: int
    ) -> tuple[Tensor, Measurement]:
        """y = A(x) + noise_level n."""
        expect(operator, Operator, "operator", CONNECT_OPERATOR)
        pixels, layout = to_pixels(image)
        check_count(operator, pixels)
        seeds = [damage_seed(seed + b) for b in range(pixels.shape[0])]

        def measured(x: Tensor) -> Measurement:
            m = simulate(beside(operator, x), operator, noise_level, per_sample_noise(seeds))
            return replace(m, y=m.y.to(pixels.device))

        m = measured(pixels)
        if layout.alpha is not None and m.y.shape != pixels.shape:
            m = measured(visible(pixels, layout))
        return to_image(m.y, layout), remember(m, layout)


class MeasurementFromImage:
    """IMAGE, operator -> MEASUREMENT."""

    DESCRIPTION = (
        "Declares how a picture of yours was degraded: this blur, this mask, this reduction, this "
        "much noise. The restored picture will be one that the same degradation turns into yours."
    )
    SEARCH_ALIASES = ("degraded image", "restore my photo", "inverse problem")
    CATEGORY = CATEGORY
    FUNCTION = "declare"
    RETURN_TYPES = ("MEASUREMENT",)
    RETURN_NAMES = ("measurement",)
    OUTPUT_TOOLTIPS = ("The picture with its operator and noise level, for a posterior sampler.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {
            "required": {
                "image": socket("IMAGE", "The degraded picture. Grey, RGB and RGBA of any size."),
                "operator": socket("DEGRADATION_OPERATOR", "What happened to it."),
                "noise_level": NOISE_LEVEL,
            }
        }

    def declare(self, image: Tensor, operator: Operator, noise_level: float) -> tuple[Measurement]:
        """The measurement, with the operator tried once on a picture of the size it asks for."""
        expect(operator, Operator, "operator", CONNECT_OPERATOR)
        y, layout = to_pixels(image)
        check_count(operator, y)
        y = visible(y, layout) if changes_size(operator, y) else y
        m = Measurement(operator.observe(y), operator, noise_level)
        height, width = m.image_size
        blank = y.new_zeros(y.shape[0], 3, height, width)
        made = operator(beside(operator, blank))
        if made.shape != y.shape:
            raise ValueError(
                f"The operator turns {width}x{height} pixels into {tuple(made.shape[-2:])}, but "
                f"the image is {tuple(y.shape[-2:])} (height, width); choose another operator or "
                "crop the image."
            )
        return (remember(m, layout),)


def check_count(operator: Operator, pixels: Tensor) -> None:
    """Raise `ValueError` unless there is one mask, or one for each picture."""
    if operator.count not in (1, len(pixels)):
        raise ValueError(
            f"The numbers of masks of the operator and of pictures are {operator.count} and "
            f"{len(pixels)}, and which belongs to which cannot be told (Repeat Image Batch puts "
            "them 1 2 1 2); give one mask, or one per picture in their order."
        )


class EstimateNoiseLevel:
    """IMAGE -> FLOAT."""

    DESCRIPTION = (
        "Estimates how noisy a picture is, as the standard deviation of white Gaussian noise (Chen "
        "et al., ICCV 2015), in the unit that noise_level uses. Where JPEG, demosaicing or "
        "enlarging left the noise blotchy, its level is found as Denoise finds it."
    )
    SEARCH_ALIASES = ("noise estimation", "sigma", "denoise")
    CATEGORY = CATEGORY
    FUNCTION = "estimate"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("FLOAT",)
    RETURN_NAMES = ("noise_level",)
    OUTPUT_TOOLTIPS = ("Standard deviation with pixels from -1 to 1; the mean over a batch.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        return {"required": {"image": socket("IMAGE", "The noisy picture.")}}

    def estimate(self, image: Tensor) -> dict[str, Any]:
        """The mean over the batch, also shown as text."""
        pixels, _ = to_pixels(image)
        found = [noise_found(picture) for picture in pixels]
        level = sum(each for each, _ in found) / len(found)
        text = f"noise level {level:.4f} ({level * 127.5:.1f} of 255)"
        said = dict.fromkeys(kind for _, kind in found if kind)
        return {"ui": {"text": [", ".join([text, *said])]}, "result": (level,)}


def noise_found(picture: Tensor) -> tuple[float, str]:
    """The level of one picture, (C, H, W), and a word on its kind.

    White noise as Chen et al. read it. Blotchy noise, which they hardly see, and noise that grows
    with brightness, of which they see the quiet parts, at mid grey as Denoise measures it.
    """
    white = estimate_noise_level(picture[None]).item()
    if min(picture.shape[-2:]) < LEAST:
        return white, ""
    model = noise_of(picture.expand(3, -1, -1).cpu())
    if model.texture:
        return white, "dense texture counted in"
    if model.blotchy:
        return max(white, model.at(0.0)), "blotchy"
    return (max(white, model.at(0.0)), "at mid grey") if model.tilt else (white, "")


class RandomMaskNode:
    """IMAGE -> MASK of random hidden pixels."""

    DESCRIPTION = "Hides a fraction of the pixels, chosen at random, in all colours alike."
    SEARCH_ALIASES = ("inpainting mask", "dropout", "missing pixels")
    CATEGORY = CATEGORY
    FUNCTION = "draw"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("1 where a pixel is hidden, 0 where it is seen.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        image = socket("IMAGE", "The picture that the mask is for; only its size is read.")
        mask_seed = seed("Random seed of the mask; one mask serves the whole batch.")
        return {"required": {"image": image, **widgets_of(RandomMask), "seed": mask_seed}}

    def draw(self, image: Tensor, seed: int, **options: Any) -> tuple[Tensor]:
        """One mask for the whole batch."""
        pixels, _ = to_pixels(image)
        height, width = pixels.shape[-2:]
        return (to_mask(1 - RandomMask(**options).seen(height, width, seed)),)


class BoxMaskNode:
    """IMAGE -> MASK of a hidden rectangle."""

    DESCRIPTION = "Hides a rectangle: an object to remove, or a hole to fill."
    SEARCH_ALIASES = ("inpainting mask", "rectangle", "hole")
    CATEGORY = CATEGORY
    FUNCTION = "draw"
    RETURN_TYPES = ("MASK",)
    RETURN_NAMES = ("mask",)
    OUTPUT_TOOLTIPS = ("1 where a pixel is hidden, 0 where it is seen.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        image = socket("IMAGE", "The picture that the mask is for; only its size is read.")
        return {"required": {"image": image, **widgets_of(BoxMask)}}

    def draw(self, image: Tensor, **options: Any) -> tuple[Tensor]:
        """One mask for the whole batch."""
        pixels, _ = to_pixels(image)
        height, width = pixels.shape[-2:]
        return (to_mask(1 - BoxMask(**options).seen(height, width)),)


def remember(m: Measurement, layout: Layout) -> PictureMeasurement:
    """The measurement with the layout its picture came in."""
    return PictureMeasurement(m.y, m.operator, m.noise_level, m.size, layout)


def changes_size(operator: Operator, pixels: Tensor) -> bool:
    """Whether a picture that the operator measured is larger than these pixels, or smaller."""
    size = tuple(pixels.shape[-2:])
    return operator.input_size(*size) != size
