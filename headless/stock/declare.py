"""How a plain function becomes a V1 node class."""

from collections.abc import Callable, Mapping
from typing import Any

MAX_SIDE = 16384  # ComfyUI's largest width and height, in pixels

Spec = tuple[Any, ...]  # (type or list of choices, options), as in INPUT_TYPES

IMAGE: Spec = ("IMAGE",)
MASK: Spec = ("MASK",)


def whole(default: int, low: int, high: int = MAX_SIDE, **options: Any) -> Spec:
    """An INT widget."""
    return "INT", {"default": default, "min": low, "max": high, **options}


def number(default: float, low: float, high: float, step: float = 0.01) -> Spec:
    """A FLOAT widget."""
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step}


def switch(default: bool) -> Spec:
    """A BOOLEAN widget."""
    return "BOOLEAN", {"default": default}


def node(function: Callable[..., tuple], returns: tuple[str, ...], category: str,
         required: Mapping[str, Spec], optional: Mapping[str, Spec] | None = None) -> type:
    """Make a node class whose one method is ``function``, called with its inputs by name."""
    inputs = {"required": dict(required), "optional": dict(optional or {})}

    def input_types(cls: type) -> dict[str, dict]:
        return inputs

    return type(function.__name__, (), {
        "INPUT_TYPES": classmethod(input_types), "RETURN_TYPES": returns, "FUNCTION": "run",
        "CATEGORY": category, "__doc__": function.__doc__, "run": staticmethod(function)})
