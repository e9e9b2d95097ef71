"""Example pictures of priors, measurement updates, the sampler and what follows it."""

from __future__ import annotations

from typing import Any

import torch
from help_degradation import degraded, prior, restored
from PIL import Image
from strips import Panel, example, node, strip
from torch import Tensor

from undegrade.nodes.images import to_image, to_pixels


def noisy(sigma: float, picture: Tensor) -> Tensor:
    """A picture with noise, (1, 3, H, W) in [-1, 1] units."""
    noise = torch.randn(1, *picture.shape[1:], generator=torch.Generator().manual_seed(0))
    return to_pixels(picture)[0] + sigma * noise.permute(0, 3, 1, 2)


def denoised(x: Tensor, sigma: float, by: Any) -> Tensor:
    """The prior's prediction, IMAGE."""
    with torch.no_grad():
        return to_image(by.denoise(x, torch.tensor([sigma])))


def pixel_prior() -> Image.Image:
    """What the built-in prior makes of noise."""
    x = noisy(0.5, example())
    far = denoised(noisy(1.0, example()), 1.0, prior())
    return strip([("noise 0.5", to_image(x)), ("what the prior sees", denoised(x, 0.5, prior())),
                  ("the same at noise 1", far)])


def blurred() -> tuple[Tensor, Any]:
    """A blur of 3 pixels with noise 0.05."""
    return degraded(node("GaussianBlur", std=3.0)[0], 0.05)


def run(levels: int = 3, measurement: Any = None, **options: Any) -> tuple[Tensor, Any]:
    """Posterior Sampler with all steps kept."""
    several = node("MultiResolutionPrior", prior=prior(), levels=levels)[0]
    return node("PosteriorSampler", prior=several, measurement=measurement or blurred()[1],
                keep_trajectory=True, **options)


def frames(trajectory: Any, show: str, count: int) -> Tensor:
    """Trajectory Preview's pictures."""
    return node("TrajectoryPreview", trajectory=trajectory, show=show, frames=count)[0]


def multi_resolution() -> Image.Image:
    """One prediction of each resolution."""
    pictures = frames(run()[1], "prediction", 30)
    return strip([("step 10, 1/4 of the size", pictures[9:10]),
                  ("step 20, 1/2", pictures[19:20]), ("step 30, full size", pictures[29:])])


def tiled_prior() -> Image.Image:
    """Noise 1 denoised in tiles of 64 pixels: apart, and with Tiled Prior."""
    x = noisy(1.0, example())
    apart = node("TiledPrior", prior=prior(), tile=64, overlap=0)[0]
    tiled = node("TiledPrior", prior=prior(), tile=64, overlap=32)[0]
    return strip([("noise 1", to_image(x)), ("without overlap", denoised(x, 1.0, apart)),
                  ("overlap 32", denoised(x, 1.0, tiled))])


def update(name: str, levels: int = 1, **options: Any) -> Image.Image:
    """A prediction before and after the measurement."""
    rule = node(name, **options)[0]
    trajectory = run(levels, sigma_max=1.0, steps=30, update=rule)[1]
    panels: list[Panel] = [("measurement", blurred()[0])]
    for caption, show in (("step 1, prediction", "prediction"),
                          ("after the update", "after the measurement")):
        panels.append((caption, frames(trajectory, show, 30)[:1]))
    return strip(panels)


def gradient_update() -> Image.Image:
    """DPS on super-resolution."""
    image, measurement = degraded(node("Downscale", factor=4)[0], 0.05)
    rule = node("GradientMeasurementUpdate", zeta=6.0)[0]
    result = node("PosteriorSampler", prior=prior(), measurement=measurement, update=rule,
                  steps=100, renoise=1.0)[0]
    return strip([("reduced 4 times", image), ("DPS, 100 steps", result), ("original", example())])


def switch() -> Image.Image:
    """The result with noise to the end, and switched."""
    rule = node("DeterministicSwitch", rule="fixed threshold", threshold=1e-2)[0]
    never, switched = run(renoise=1.0)[0], run(renoise=1.0, switch=rule)[0]
    return strip([("never", never), ("switched early", switched),
                  ("difference, 4 times", 0.5 + 4 * (switched - never))])


def sampler() -> Image.Image:
    """Super-resolution."""
    image, measurement = degraded(node("Downscale", factor=4)[0], 0.05)
    return strip([("reduced 4 times", image), ("restored", restored(measurement)),
                  ("original", example())])


def corrector() -> Image.Image:
    """The last prediction and the corrected one."""
    image, trajectory = run(steps=100, renoise=1.0)
    corrected = node("TrajectoryCorrector", trajectory=trajectory)[0]
    return strip([("last prediction", image), ("corrected", corrected),
                  ("difference, 10 times", 0.5 + 10 * (corrected - image))])


def preview() -> Image.Image:
    """Six steps."""
    pictures = frames(run()[1], "prediction", 6)
    return strip([(f"prediction {k + 1} of 6", pictures[k : k + 1]) for k in range(6)])


def statistics() -> Image.Image:
    """One of eight draws, their spread and what is certain."""
    samples = restored(blurred()[1], draws=True, samples=8)
    found = node("PosteriorStatistics", images=samples)
    return strip([("one of 8 answers", samples[:1]), ("uncertainty, 10 times", found[1]),
                  ("certain to 0.05", found[5])])


def prior_error() -> Image.Image:
    """A prediction from much noise, and how far it lies from the truth."""
    predicted = denoised(noisy(0.5, example()), 0.5, prior())
    return strip([("picture", example()), ("predicted from noise 0.5", predicted),
                  ("error, 3 times", 0.5 + 3 * (predicted - example()))])


def consistency() -> Image.Image:
    """The residual with the right and with a wrong kernel."""
    image, measurement = blurred()
    wrong = node("MeasurementFromImage", image=image, operator=node("GaussianBlur", std=5.0)[0])[0]
    panels: list[Panel] = [("blurred", image)]
    for name, given in (("right blur", measurement), ("too wide", wrong)):
        residual, ratio, _ = node("MeasurementConsistency", image=restored(given),
                                  measurement=given, gain=4.0)
        panels.append((f"{name}: ratio {ratio:.2f}", residual))
    return strip(panels)


def score() -> Image.Image:
    """Two pictures with their figures."""
    panels: list[Panel] = []
    image, measurement = blurred()
    for name, picture in (("blurred", image), ("restored", restored(measurement))):
        psnr, ssim, *_ = node("ScoreRestoration", image=picture, reference=example())
        panels.append((f"{name}: {psnr:.1f} dB, {ssim:.2f}", picture))
    return strip([*panels, ("reference", example())])


PICTURES = {
    "LoadPixelPrior": pixel_prior,
    "MultiResolutionPrior": multi_resolution,
    "TiledPrior": tiled_prior,
    "CGMeasurementUpdate": lambda: update("CGMeasurementUpdate"),
    "LangevinMeasurementUpdate": lambda: update("LangevinMeasurementUpdate", iterations=100),
    "GradientMeasurementUpdate": gradient_update,
    "DeterministicSwitch": switch,
    "PosteriorSampler": sampler,
    "TrajectoryCorrector": corrector,
    "TrajectoryPreview": preview,
    "PosteriorStatistics": statistics,
    "MeasurePriorError": prior_error,
    "MeasurementConsistency": consistency,
    "ScoreRestoration": score,
}
