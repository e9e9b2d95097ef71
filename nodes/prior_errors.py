"""Measure Prior Error: what a prior's predictions are worth, for draws from the posterior."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

from ..models.prior import ErrorCurve, MeasuredPrior, Prior
from ..pipelines.prior_errors import errors, levels_of, reduced
from .comfyui import host
from .images import to_pixels
from .priors import CATEGORY
from .watched import WatchedPrior
from .widgets import expect, socket

KEPT = 16  # curves of this process
_kept: OrderedDict[str, ErrorCurve] = OrderedDict()


class MeasurePriorError:
    """DIFFUSION_PRIOR, IMAGE -> DIFFUSION_PRIOR that knows its error."""

    DESCRIPTION = (
        "Measures on a few clean pictures how far the prior's predictions lie from the truth at "
        "every noise level, which draws from the posterior need. The built-in prior's stands in "
        "its file; other priors need this node once, behind Load Pixel Prior or another."
    )
    SEARCH_ALIASES = ("calibrate prior", "uncertainty", "error curve", "draws")
    CATEGORY = CATEGORY
    FUNCTION = "measure"
    HAS_INTERMEDIATE_OUTPUT = True
    RETURN_TYPES = ("DIFFUSION_PRIOR", "STRING")
    RETURN_NAMES = ("prior", "report")
    OUTPUT_TOOLTIPS = (
        "The same prior, for a Posterior Sampler with draws on.",
        "The root mean square error at every noise level, pixels from -1 to 1.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The sockets."""
        pictures = (
            "About four clean, sharp pictures of the kind to be restored, all of one size, 256 "
            "pixels a side or more."
        )
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "The prior to measure."),
                "image": socket("IMAGE", pictures),
            }
        }

    def measure(self, prior: Prior, image: Tensor) -> dict[str, Any]:
        """Predict the pictures at every noise level, unless the same was measured before."""
        expect(prior, Prior, "prior", "a prior such as Load Pixel Prior")
        pixels, _ = to_pixels(image)
        with host.running(prior) as device, torch.no_grad():
            curve = measured(prior, pixels.to(device))
        report = told(curve)
        return {"ui": {"text": [report]}, "result": (MeasuredPrior(prior, curve), report)}


def measured(prior: Prior, pixels: Tensor) -> ErrorCurve:
    """The curve, from memory where the same prior has predicted the same pictures before.

    A prior is recognised by what it predicts of the first picture, to three decimals, so that
    another checkpoint, prompt or LoRA under the same name is another prior.
    """
    factors = sorted({*prior.spec.factors, *prior.spec.trained_factors})
    calls = len(factors) * len(levels_of(prior))
    progress = host.Progress(1 + calls, "Measure Prior Error")
    watched = WatchedPrior(prior, progress)
    state = reduced(watched, pixels[:1], 1)
    sigma = torch.full((1,), levels_of(prior)[-1], device=state.device)
    key = hashlib.sha256(repr((factors, tuple(pixels.shape))).encode())
    for seen in (watched.denoise(state, sigma).mul(1000).round().int(), pixels):
        key.update(seen.cpu().contiguous().numpy().tobytes())
    name = key.hexdigest()
    if name not in _kept:
        *_, _kept[name] = errors(watched, pixels, factors)
    progress.reach(progress.total)
    _kept.move_to_end(name)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[name]


def told(curve: ErrorCurve) -> str:
    """A line per reduction."""
    return "\n".join(
        f"1/{factor}: " + ", ".join(f"{error:.3g} at {sigma:g}" for sigma, error, *_ in points)
        for factor, points in curve.points.items()
    )
