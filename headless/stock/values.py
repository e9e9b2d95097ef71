"""Single values as nodes, and the node that shows any value as text."""

import json
import sys
from typing import Any

from .declare import node, whole


def constant(value: Any) -> tuple:
    """The widget's value."""
    return (value,)


def preview_any(source: Any = None) -> dict:
    """The value as text: text as it is, numbers plainly, the rest as JSON where that works."""
    text = as_text(source)
    return {"ui": {"text": (text,)}, "result": (text,)}


def as_text(source: Any) -> str:
    """What `preview_any` shows."""
    if isinstance(source, str):
        return source
    if isinstance(source, bool | int | float) or source is None:
        return str(source)
    try:
        return json.dumps(source)
    except (TypeError, ValueError):
        return str(source)


class PreviewAny:
    """Shows any value as text."""

    RETURN_TYPES: tuple[str, ...] = ("STRING",)
    FUNCTION = "main"
    OUTPUT_NODE = True
    CATEGORY = "utils"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict]:
        """Anything."""
        return {"required": {"source": ("*", {})}}

    main = staticmethod(preview_any)


LIMIT = sys.maxsize
PRIMITIVES = {
    "PrimitiveInt": whole(0, -LIMIT, LIMIT, control_after_generate=True),
    "PrimitiveFloat": ("FLOAT", {"default": 0.0, "min": -LIMIT, "max": LIMIT}),
    "PrimitiveString": ("STRING", {"default": ""}),
    "PrimitiveStringMultiline": ("STRING", {"default": "", "multiline": True}),
    "PrimitiveBoolean": ("BOOLEAN", {"default": False}),
}
NODES = {
    name: node(constant, (spec[0],), "utils/primitive", {"value": spec})
    for name, spec in PRIMITIVES.items()
} | {"PreviewAny": PreviewAny}
TITLES = {"PrimitiveInt": "Int", "PrimitiveFloat": "Float", "PrimitiveString": "String",
          "PrimitiveStringMultiline": "String (Multiline)", "PrimitiveBoolean": "Boolean",
          "PreviewAny": "Preview Any"}
