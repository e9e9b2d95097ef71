"""What other nodes have put on a MODEL, read off the model options of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ...models.prior import Prior
from ...models.registry import innermost
from .guider_prior import GuiderPrior

TILES = "undegrade_tiles"  # in transformer_options: (TileGrid, numbers of a call's tiles)
GAINS = "undegrade_gains"  # (tiles, 2): g^F / tau and g^N / tau at their last evaluation
CACHES = (
    "easycache", "lazycache", "teacache", "rel_l1", "deepcache", "fbcache", "first_block_cache",
    "magcache", "wavespeed", "cache_dit", "dbcache",
)  # fmt: skip


def refuse_caches(options: dict[str, Any]) -> None:
    """Raise `ValueError` for a model that reuses steps, which are other tiles' here."""
    for found in names_in(options):
        if any(cache in found.lower() for cache in CACHES):
            raise ValueError(
                f"The model has a step cache ({found}), which reuses one tile's step for another; "
                "take it off the model."
            )


def refuse_canvas_bound(options: dict[str, Any], channels: int, seen: str) -> None:
    """Raise `ValueError` for a model with a patch that holds a picture of the whole canvas, as
    SUPIR's and the ControlNets do that are put on the MODEL.

    channels: of the model's latents. seen: what the network is shown instead of the canvas.
    """
    for _, value in functions_in(options):
        if any(is_picture(kept, channels) for kept in kept_by(value)):
            raise ValueError(
                f"The model has a patch ({name_of(value)}) that brings a picture for the whole "
                f"canvas, but the model is shown {seen}; take that patch off the model."
            )


def refuse_bound_prior(prior: Prior, seen: str) -> None:
    """The same for a prior that is a model of ComfyUI."""
    inner = innermost(prior)
    if isinstance(inner, GuiderPrior):
        refuse_canvas_bound(inner.guider.model_options, inner.spec.channels, seen)


def kept_by(value: Any) -> Iterator[Any]:
    """What a function closes over, or an object (of a bound method: its owner) has as attributes.
    Our own patches, which know of tiles, say so by an attribute `per_sample`."""
    owner = getattr(value, "__self__", value)
    if getattr(owner, "per_sample", False):
        return
    yield value
    yield from getattr(owner, "__dict__", {}).values()
    for cell in getattr(value, "__closure__", None) or ():
        yield cell.cell_contents


def is_picture(kept: Any, channels: int) -> bool:
    """Whether it is an IMAGE, the same with channels first, or latents of so many channels."""
    if not isinstance(kept, Tensor) or kept.ndim != 4:
        return False
    first, last = kept.shape[1], kept.shape[-1]
    pictures = last in (1, 3, 4) and min(kept.shape[1:3]) > 1
    return pictures or (first in (3, channels) and min(kept.shape[2:]) > 1)


def name_of(value: Any) -> str:
    """Of the class a patch is of, or of the node whose function it is."""
    owner = getattr(value, "__self__", value)
    return getattr(owner, "__qualname__", type(owner).__qualname__).partition(".")[0]


def functions_in(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All functions in model options, however deep, with the keys that lead there."""
    if isinstance(value, dict):
        for key, inside in value.items():
            if key != "callbacks":
                yield from functions_in(inside, (*keys, str(key)))
    elif isinstance(value, list | tuple):
        for inside in value:
            yield from functions_in(inside, keys)
    else:
        yield keys, value


def names_in(options: dict[str, Any]) -> Iterator[str]:
    """Keys, and names of functions and classes, in model options."""
    for keys, value in functions_in(options):
        yield from keys
        owner = value if callable(value) else type(value)
        if owner.__module__ != "builtins":
            yield f"{owner.__module__}.{getattr(owner, '__qualname__', type(owner).__qualname__)}"


def one_level(options: dict[str, Any]) -> bool:
    """Whether a function of another node may ask for the level of a call's first sample.

    Our own say that they do not, by an attribute `per_sample`.
    """
    found = (value for _, value in functions_in(options) if callable(value))
    return any(not getattr(value, "per_sample", False) for value in found)
