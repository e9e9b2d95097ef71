"""Calibrate Regions: a step policy that means the same for every prior."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import replace
from typing import Any

from torch import Tensor

from ...models.prior import Prior
from ...pipelines.adadiffsr.base_grid import BaseGrid
from ...pipelines.adadiffsr.calibration import Curves, calibrate, forecast
from ...pipelines.adadiffsr.injection import Injection
from ...pipelines.adadiffsr.regions import RegionOptions, Task
from ...pipelines.adadiffsr.step_policy import StepPolicy
from ...pipelines.tiled_prior import TileOptions
from ...pipelines.tiling import TileGrid
from ..comfyui import host
from ..latents import encode
from ..watched import WatchedPrior
from ..widgets import socket, widgets_of
from .policy import CATEGORY
from .sampler import TILES_PER_CALL, check_sockets, task_of

TILES = {
    **TILES_PER_CALL[1],
    "min": 1,
    "tooltip": "Most tiles in one network call: as many as fit in memory. The picture does not "
    "depend on it.",
}
KEPT = 16  # calibrations of this process
_kept: OrderedDict[str, Curves] = OrderedDict()


class CalibrateRegions:
    """DIFFUSION_PRIOR, IMAGE -> STEP_POLICY."""

    DESCRIPTION = (
        "Measures on a few pictures how much a hard region changes with this prior, so that a step "
        "policy means the same for every prior and base grid. Do it once per prior, steps and "
        "noise levels; it runs every step of every tile."
    )
    SEARCH_ALIASES = ("AdaDiffSR", "threshold", "adaptive steps")
    CATEGORY = CATEGORY
    FUNCTION = "measure"
    RETURN_TYPES = ("STEP_POLICY", "STRING")
    RETURN_NAMES = ("policy", "report")
    OUTPUT_TOOLTIPS = (
        "The policy with the measured spans, for a sampler with the same base grid.",
        "The spans, and how many evaluations per tile each quality would make.",
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """The widgets."""
        images = (
            "About three pictures of the kind to be restored, as Tile Splitter gets them: degraded "
            "and enlarged."
        )
        return {
            "required": {
                "prior": socket("DIFFUSION_PRIOR", "The prior to calibrate for."),
                "image": socket("IMAGE", images),
                **widgets_of(BaseGrid),
                "tile": widgets_of(TileOptions)["tile"],
                "tiles_per_call": ("INT", TILES),
            },
            "optional": {
                "policy": socket("STEP_POLICY", "Without it: Step Policy's defaults."),
                "injection": socket(
                    "FEATURE_INJECTION", "The same as the sampler's; it changes what regions gain."
                ),
            },
        }

    def measure(
        self,
        prior: Prior,
        image: Tensor,
        tile: int,
        tiles_per_call: int,
        policy: StepPolicy | None = None,
        injection: Injection | None = None,
        **options: Any,
    ) -> tuple[StepPolicy, str]:
        """Run every step of every tile, unless the same was measured before."""
        check_sockets(prior, policy, injection)
        sigmas = BaseGrid(**options).sigmas(prior.spec)
        side, _ = TileOptions(tile=tile, overlap=0).sides(prior)
        samples, _ = encode(image, prior)
        grid = TileGrid(samples.shape[-2], samples.shape[-1], side, 0)
        with host.running(prior) as device:
            task = task_of(prior, grid.cut(samples), grid, 0, sigmas, device)
            curves = measured(prior, task, injection, tiles_per_call)
        chosen = replace(policy or StepPolicy(), spans=curves.spans)
        return chosen, told(curves, chosen)


def measured(prior: Prior, task: Task, injection: Injection | None, batch: int) -> Curves:
    """The curves of the tiles, from memory where the same prior has shown them before.

    A prior is recognised by what it predicts for the noisiest state of the first tile, to three
    decimals, so that another checkpoint, prompt or LoRA under the same name is another prior.
    """
    tiles, steps = len(task.z_lr), len(task.sigmas)
    calls = max(-(-tiles * steps // batch), steps)
    progress = host.Progress(1 + calls, "Calibrate Regions")
    watched = WatchedPrior(prior, progress)
    sigma = task.sigmas[:1].to(task.z_lr)
    shown = watched.denoise(task.z_lr[:1] + sigma * task.noise[:1], sigma)
    key = hashlib.sha256(repr((task.grid, task.sigmas.tolist(), injection)).encode())
    for seen in (shown.mul(1000).round().int(), task.z_lr):
        key.update(seen.cpu().contiguous().numpy().tobytes())
    name = key.hexdigest()
    if name in _kept:
        progress.advance(calls)
    else:
        _kept[name] = calibrate(
            lambda x, s, _: watched.denoise(x, s),
            task,
            RegionOptions(),
            injection=injection,
            batch=batch,
        )
    _kept.move_to_end(name)
    while len(_kept) > KEPT:
        _kept.popitem(last=False)
    return _kept[name]


def told(curves: Curves, policy: StepPolicy) -> str:
    """The spans and what each quality would cost, in words."""
    spans, steps = curves.spans, len(curves.sigmas)
    found = ", ".join(f"{name} {mean:.1f}" for name, mean in forecast(curves, policy).items())
    return (
        f"{len(curves.change)} tiles at {steps} steps from noise level {spans.sigmas[0]:.4g} to "
        f"{spans.sigmas[-1]:.4g}\n"
        f"a hard region's way S {spans.full_reference:.4g}, rise of detail S_N "
        f"{spans.no_reference:.4g}, loss {spans.loss:.4g} S\n"
        f"predicted evaluations per tile of {steps}: {found}"
    )
