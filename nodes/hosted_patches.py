"""What other nodes have put on a MODEL, read off the model options of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
