"""Example pictures of the region-adaptive nodes and of inversion."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from help_degradation import prior
from PIL import Image
from strips import Panel, example, node, strip
from torch import Tensor

from undegrade.nodes.images import to_image, to_pixels


def resized(picture: Tensor, scale: float, mode: str) -> Tensor:
    """IMAGE by ComfyUI's way of Upscale Image By."""
    planes = F.interpolate(picture.permute(0, 3, 1, 2), scale_factor=scale, mode=mode)
    return planes.permute(0, 2, 3, 1).clamp(0, 1)


def enlarged() -> Tensor:
    """The photograph reduced by 4 and enlarged again, bicubic."""
    return resized(resized(example(), 0.25, "area"), 4, "bicubic")


def split(overlap: int = 32) -> tuple[dict[str, Any], Any]:
    """Tiles of 64 pixels of the enlarged photograph, and their grid."""
    return node("TileSplitter", prior=prior(), image=enlarged(), tile=64, overlap=overlap)


def joined(tiles: dict[str, Any], grid: Any) -> Tensor:
    """The tiles as one IMAGE."""
    latent = node("TileStitcher", tiles=tiles, grid=grid)[0]
    return node("DecodeWithPrior", latent=latent, prior=prior())[0]


def adapted(injection: bool = True, overlap: int = 32, **options: Any) -> tuple[Tensor, Tensor]:
    """(IMAGE, work map) of Region-Adaptive Sampler in the workflow's settings."""
    tiles, grid = split(overlap)
    if injection:
        options["injection"] = node("FeatureInjection", strength=1.0, scale=4)[0]
    settings = {"start_sigma": 0.4, "noise": 0.8, "steps": 20, **options}
    done, work, _ = node("RegionAdaptiveSampler", prior=prior(), tiles=tiles, grid=grid,
                              **settings)
    return joined(done, grid), work


def policy(mode: str, quality: str = "balanced") -> Any:
    """Step Policy's."""
    return node("StepPolicy", mode=mode, quality=quality)[0]


def splitter() -> Image.Image:
    """Three neighbours that overlap by half, enlarged."""
    tiles, _ = split()
    pictures = to_image(tiles["samples"]).repeat_interleave(3, 1).repeat_interleave(3, 2)
    return strip([(f"tile {k}", pictures[k : k + 1]) for k in (8, 9, 10)])


def stitcher() -> Image.Image:
    """Tiles restored apart, laid side by side and stitched."""
    return strip([("tiles side by side", adapted(overlap=0)[0]), ("overlap 32", adapted()[0]),
                  ("original", example())])


def decode() -> Image.Image:
    """The picture that was split, and the one that comes back."""
    tiles, grid = split()
    back = joined(tiles, grid)
    return strip([("split", enlarged()), ("stitched and decoded", back),
                  ("difference, 10 times", 0.5 + 10 * (back - enlarged()))])


def step_policy() -> Image.Image:
    """Work maps of three qualities."""
    panels: list[Panel] = []
    for quality in ("balanced", "fast", "draft"):
        work = adapted(policy=policy("error", quality))[1]
        panels.append((f"{quality}: {100 * work.mean():.0f} % of steps", work))
    return strip(panels)


def calibrate() -> Image.Image:
    """The same quality before and after calibration."""
    plain = policy("error", "draft")
    injection = node("FeatureInjection", strength=1.0, scale=4)[0]
    measured = node("CalibrateRegions", prior=prior(), image=enlarged(), policy=plain, tile=64,
                    injection=injection, steps=20, start_sigma=0.4)[0]
    panels: list[Panel] = [("enlarged", enlarged())]
    for name, chosen in (("draft", plain), ("draft, calibrated", measured)):
        work = adapted(policy=chosen)[1]
        panels.append((f"{name}: {100 * work.mean():.0f} %", work))
    return strip(panels)


def regressor() -> Image.Image:
    """Work maps of the paper's classes without and with the regressor."""
    loaded = node("LoadRegionEntropyRegressor")[0]
    panels: list[Panel] = [("enlarged", enlarged())]
    for name, options in (("estimator", {}), ("regressor", {"regressor": loaded})):
        work = adapted(policy=policy("paper"), **options)[1]
        panels.append((f"{name}: {100 * work.mean():.0f} %", work))
    return strip(panels)


def injected() -> Image.Image:
    """Without and with."""
    return strip([("enlarged", enlarged()), ("without", adapted(injection=False)[0]),
                  ("strength 1, scale 4", adapted()[0])])


def region_sampler() -> Image.Image:
    """Before, after, and the work."""
    image, work = adapted(policy=policy("error", "draft"))
    return strip([("enlarged 4 times", enlarged()), ("restored", image),
                  ("work, white is all", work)])


def spoilt() -> Tensor:
    """The photograph after Real-World Degradation, a quarter of its size."""
    return node("RealWorldDegradation", image=example(), strength="mild", scale=4)[0]


def inverted(strength: float = 1.0) -> Tensor:
    """Inversion Sampler with the built-in pair, in the workflow's settings."""
    predictor = node("LoadNoisePredictor")[0]
    return node("InversionSampler", prior=prior(), predictor=predictor, image=spoilt(),
                start_timestep=100, strength=strength)[0]


def predictor() -> Image.Image:
    """The noise that the built-in predictor predicts."""
    network = node("LoadNoisePredictor")[0]
    with torch.no_grad():
        mean, std = network.predict(to_pixels(spoilt())[0], torch.tensor([0.4]))
    return strip([("small picture", spoilt()), ("mean, grey is 0", to_image(mean / 2)),
                  ("deviation, 10 times", 10 * std.permute(0, 2, 3, 1))])


def inversion() -> Image.Image:
    """Small, bicubic, one step."""
    return strip([("small and bad", spoilt()), ("bicubic", resized(spoilt(), 4, "bicubic")),
                  ("one step", inverted())])


def match_colors() -> Image.Image:
    """A picture with a wrong colour, matched by every method."""
    tint = torch.tensor([1.15, 0.95, 0.7])
    image = (example() * tint + torch.tensor([0, 0.03, 0.12])).clamp(0, 1)
    panels: list[Panel] = [("image", image), ("reference", enlarged())]
    for method in ("wavelet", "AdaIN", "YCbCr", "Lab"):
        panels.append((method, node("MatchColors", image=image, reference=enlarged(),
                                    method=method)[0]))
    return strip(panels)


PICTURES = {
    "TileSplitter": splitter,
    "TileStitcher": stitcher,
    "DecodeWithPrior": decode,
    "StepPolicy": step_policy,
    "CalibrateRegions": calibrate,
    "LoadRegionEntropyRegressor": regressor,
    "FeatureInjection": injected,
    "RegionAdaptiveSampler": region_sampler,
    "LoadNoisePredictor": predictor,
    "InversionSampler": inversion,
    "MatchColors": match_colors,
}
