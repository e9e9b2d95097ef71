"""Options dataclass -> INPUT_TYPES: one source of defaults, intervals and tooltips."""

from __future__ import annotations

from typing import Any

from ..pipelines.options import Option, describe

Widget = tuple[Any, dict[str, Any]]


def seed(tooltip: str) -> Widget:
    """A seed, with ComfyUI's choice of what happens to it after a run."""
    most = 2**64 - 1
    settings = {"default": 0, "min": 0, "max": most, "control_after_generate": True}
    return "INT", {**settings, "tooltip": tooltip}


SEED = seed(
    "Random seed; picture b of a batch uses seed + b. The same seed gives the same picture."
)


def widgets_of(cls: type) -> dict[str, Widget]:
    """One widget per option of a dataclass, in their order; "seed" is a seed widget."""
    options = describe(cls).items()
    return {
        name: seed(known.tooltip) if name == "seed" else widget(default, known)
        for name, (default, known) in options
    }


def widget(default: Any, known: Option) -> Widget:
    """The ComfyUI widget of one option."""
    settings: dict[str, Any] = {"default": default, "tooltip": known.tooltip}
    if known.advanced:
        settings["advanced"] = True
    if known.choices:
        return list(known.choices), settings
    if isinstance(default, bool):
        return "BOOLEAN", settings
    if isinstance(default, str):
        return "STRING", settings
    settings |= {k: v for k in ("min", "max", "step") if (v := getattr(known, k)) is not None}
    if isinstance(default, float):
        settings["round"] = False
    return ("INT" if isinstance(default, int) else "FLOAT"), settings


def socket(kind: str, tooltip: str) -> Widget:
    """A connection of another node's output."""
    return kind, {"tooltip": tooltip}


def expect(value: Any, kind: type | tuple[type, ...], name: str, connect: str) -> Any:
    """`value`, checked: ComfyUI does not validate literal values on custom sockets.

    Raises `TypeError` telling what to connect.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} is of type {type(value).__name__}; connect {connect}.")
    return value


def options_node(cls: type, shared: dict[str, Any], description: str, *aliases: str) -> type:
    """The node class of an options dataclass whose fields are all there is to ask.

    shared: what such nodes have in common: CATEGORY, RETURN_TYPES, RETURN_NAMES, OUTPUT_TOOLTIPS.
    """

    def make(self: object, **options: Any) -> tuple[Any]:
        return (cls(**options),)

    own = {
        "__doc__": f"Widgets -> {cls.__name__}.",
        "DESCRIPTION": description,
        "SEARCH_ALIASES": aliases,
        "FUNCTION": "make",
        "INPUT_TYPES": classmethod(lambda _: {"required": widgets_of(cls)}),
        "make": make,
    }
    return type(f"{cls.__name__}Node", (), {**shared, **own})
