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
    if isinstance(source, str):
        return {"ui": {"text": (source,)}}
    if isinstance(source, bool | int | float) or source is None:
        return {"ui": {"text": (str(source),)}}
    try:
        return {"ui": {"text": (json.dumps(source),)}}
    except (TypeError, ValueError):
        return {"ui": {"text": (str(source),)}}


class PreviewAny:
    """Shows any value as text."""

    RETURN_TYPES: tuple[str, ...] = ()
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
