"""How the tests of nodes call them: with every widget at its default, as ComfyUI does."""

import torch

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models.prior import GaussianPrior

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}


def inputs_of(node_id: str) -> dict:
    sections = NODE_CLASS_MAPPINGS[node_id].INPUT_TYPES()
    return {**sections.get("required", {}), **sections.get("optional", {})}


def call(node_id: str, **given):
    """Run a node with its widgets' defaults, under inference_mode as ComfyUI does."""
    cls = NODE_CLASS_MAPPINGS[node_id]
    values = {}
    for name, (kind, settings) in inputs_of(node_id).items():
        if isinstance(kind, list):
            values[name] = settings.get("default", kind[0])
        elif kind in WIDGETS:
            values[name] = settings["default"]
    with torch.inference_mode():
        out = getattr(cls(), cls.FUNCTION)(**{**values, **given})
    return out["result"] if isinstance(out, dict) else out


def photo(height=32, width=48, channels=3, batch=1) -> torch.Tensor:
    """A smooth picture with an edge, IMAGE."""
    v, u = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    planes = torch.stack([u, v, (u + v > 1).float(), 0.5 + 0.5 * u], -1)[..., :channels]
    return planes.expand(batch, -1, -1, -1).clone()


def small_prior() -> GaussianPrior:
    return GaussianPrior(std=0.5)


def measured(**given):
    """(degraded IMAGE, MEASUREMENT) of a photo reduced by 2."""
    operator = call("UndegradeDownscale", factor=2)[0]
    return call("UndegradeDegradeImage", image=photo(**given), operator=operator)


def sampled(m, **given):
    """(IMAGE, RESTORATION_TRAJECTORY) of a short run."""
    defaults = {"prior": small_prior(), "measurement": m, "steps": 3, "sigma_max": 5.0}
    return call("UndegradePosteriorSampler", **{**defaults, **given})
