"""Example pictures of the degradation nodes and of those that describe a degraded picture."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import torch
from PIL import Image
from strips import EXAMPLE, Panel, example, node, strip
from torch import Tensor


def prior() -> Any:
    """The built-in prior."""
    return node("LoadPixelPrior")[0]


def degraded(operator: Any, noise_level: float = 0.01) -> tuple[Tensor, Any]:
    """(IMAGE, MEASUREMENT) of the example photograph."""
    return node("DegradeImage", image=example(), operator=operator, noise_level=noise_level)


def restored(measurement: Any, levels: int = 3, **options: Any) -> Tensor:
    """Posterior Sampler's picture, with the built-in prior at several resolutions."""
    several = node("MultiResolutionPrior", prior=prior(), levels=levels)[0]
    return node("PosteriorSampler", prior=several, measurement=measurement, **options)[0]


def repaired(operator: Any, noise_level: float, name: str, **options: Any) -> Image.Image:
    """degraded | restored | original."""
    image, measurement = degraded(operator, noise_level)
    return strip([(name, image), ("restored", restored(measurement, **options)),
                  ("original", example())])


def downscale() -> Image.Image:
    """The three filters."""
    panels: list[Panel] = []
    for kernel in ("bicubic", "area", "bilinear"):
        operator = node("Downscale", factor=4, kernel=kernel)[0]
        panels.append((f"factor 4, {kernel}", degraded(operator)[0]))
    return strip(panels)


def gaussian_blur() -> Image.Image:
    """Three widths."""
    return strip([(f"std {std:g}", degraded(node("GaussianBlur", std=std)[0])[0])
                  for std in (1.0, 3.0, 6.0)])


def motion_blur() -> Image.Image:
    """Both paths, each with its kernel."""
    panels: list[Panel] = []
    for path, options in (("random walk", {"seed": 0}), ("straight", {"length": 31, "angle": 30})):
        operator, kernel = node("MotionBlur", path=path, **options)
        panels += [(f"kernel, {path}", kernel), ("blurred", degraded(operator)[0])]
    return strip(panels, columns=2)


def ring(side: int = 21) -> Tensor:
    """A thin ring, as a lens with a mirror in its middle spreads a point, IMAGE."""
    axis = torch.arange(side) - side // 2
    radius = torch.hypot(axis[:, None].float(), axis[None].float())
    return ((radius - 8).abs() < 1.2).float()[None, ..., None].expand(1, -1, -1, 3)


def kernel_blur() -> Image.Image:
    """A kernel of the user's, and what it does."""
    operator, kernel = node("KernelBlur", kernel=ring())
    image, measurement = degraded(operator)
    return strip([("kernel", kernel), ("blurred", image), ("restored", restored(measurement))])


def estimate_blur_kernel() -> Image.Image:
    """A shaken photograph, what is found of the shake, and the picture without it."""
    image, _ = degraded(node("MotionBlur", path="random walk", side=21, seed=2)[0])
    kernel, operator, level, *_ = node("EstimateBlurKernel", prior=prior(), image=image,
                                       kernel_size=23)
    measurement = node("MeasurementFromImage", image=image, operator=operator,
                       noise_level=level)[0]
    panels = [("blurred", image), ("kernel found", kernel), ("restored", restored(measurement))]
    return strip(panels)


def inpainting_mask() -> Image.Image:
    """70 % hidden."""
    mask = node("RandomMask", image=example(), hidden=0.7)[0]
    return repaired(node("InpaintingMask", mask=mask)[0], 0.05, "70 % hidden")


def random_mask() -> Image.Image:
    """Three fractions, enlarged."""
    small = example()[:, :64, :64]
    return strip([(f"hidden {hidden:g}", node("RandomMask", image=small, hidden=hidden)[0])
                  for hidden in (0.3, 0.7, 0.92)])


def box_mask() -> Image.Image:
    """The spoon hidden, and filled."""
    mask = node("BoxMask", image=example(), width=0.25, height=0.25, x=0.72, y=0.8)[0]
    operator = node("InpaintingMask", mask=mask)[0]
    measurement = node("MeasurementFromImage", image=example(), operator=operator,
                       noise_level=0.01)[0]
    return strip([("picture", example()), ("mask", mask),
                  ("filled", restored(measurement, sigma_max=1.0))])


def compose() -> Image.Image:
    """Blur, then reduction, then JPEG."""
    blur, small = node("GaussianBlur", std=2.0)[0], node("Downscale", factor=2)[0]
    jpeg = node("JPEG", quality=15)[0]
    both = node("ComposeOperators", first=blur, second=small)[0]
    three = node("ComposeOperators", first=both, second=jpeg)[0]
    return strip([("Gaussian Blur", degraded(blur)[0]), ("then Downscale", degraded(both)[0]),
                  ("then JPEG", degraded(three)[0])])


def degrade_image() -> Image.Image:
    """One operator, three noise levels."""
    operator = node("GaussianBlur", std=1.5)[0]
    return strip([(f"blur, noise_level {level:g}", degraded(operator, level)[0])
                  for level in (0.01, 0.05, 0.2)])


def measurement_from_image() -> Image.Image:
    """A blurred picture with the right and with a wrong kernel."""
    right, wrong = (node("MotionBlur", path="straight", length=11.0, angle=angle)[0]
                    for angle in (30.0, 120.0))
    image = degraded(right, 0.02)[0]
    panels: list[Panel] = [("blurred", image)]
    for name, operator in (("right kernel", right), ("kernel turned by 90", wrong)):
        measurement = node("MeasurementFromImage", image=image, operator=operator)[0]
        panels.append((name, restored(measurement)))
    return strip(panels)


def estimate_jpeg_quality() -> Image.Image:
    """Three files and what is read from their pixels."""
    panels: list[Panel] = []
    for quality in (10, 40, 80):
        file = BytesIO()
        Image.open(EXAMPLE).convert("RGB").save(file, "JPEG", quality=quality)
        pixels = torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8)
        picture = pixels.view(1, 256, 256, 3).float() / 255
        found = node("EstimateJPEGQuality", image=picture)[0]
        panels.append((f"saved {quality}, found {found}", picture))
    return strip(panels)


def estimate_noise_level() -> Image.Image:
    """Three known noise levels and what the node reads."""
    panels: list[Panel] = []
    for level in (0.02, 0.05, 0.2):
        picture = example() + level / 2 * torch.randn(
            example().shape, generator=torch.Generator().manual_seed(0))
        found = node("EstimateNoiseLevel", image=picture)[0]
        panels.append((f"true {level:g}, found {found:.3f}", picture))
    return strip(panels)


def real_world() -> Image.Image:
    """The four strengths with one seed."""
    return strip([(strength, node("RealWorldDegradation", image=example(), strength=strength,
                                  scale=4)[0])
                  for strength in ("mild", "StableSR", "InvSR", "Real-ESRGAN")], columns=2)


def phase_retrieval() -> Image.Image:
    """The measurement and two answers, turned where the symmetry asks for it."""
    operator = node("PhaseRetrieval")[0]
    image, measurement = degraded(operator, 0.05)
    update = node("LangevinMeasurementUpdate", iterations=30)[0]
    answers = node("PosteriorSampler", prior=prior(), measurement=measurement, update=update,
                   renoise=1.0, samples=2)[0]
    return strip([("Fourier magnitude", image), ("answer 0", answers[:1]),
                  ("answer 1", answers[1:])])


PICTURES = {
    "Downscale": downscale,
    "GaussianBlur": gaussian_blur,
    "MotionBlur": motion_blur,
    "KernelBlur": kernel_blur,
    "EstimateBlurKernel": estimate_blur_kernel,
    "InpaintingMask": inpainting_mask,
    "RandomMask": random_mask,
    "BoxMask": box_mask,
    "HDRClip": lambda: repaired(node("HDRClip", gain=2.0)[0], 0.05, "clipped, gain 2", levels=1,
                                sigma_max=1.0),
    "JPEG": lambda: repaired(node("JPEG", quality=10)[0], 0.01, "quality 10", levels=1,
                             sigma_max=1.0),
    "ComposeOperators": compose,
    "DegradeImage": degrade_image,
    "MeasurementFromImage": measurement_from_image,
    "EstimateJPEGQuality": estimate_jpeg_quality,
    "EstimateNoiseLevel": estimate_noise_level,
    "RealWorldDegradation": real_world,
    "PhaseRetrieval": phase_retrieval,
}
