"""Which entry of a saved node's ``widgets_values`` belongs to which widget.

The list has the widgets in the order of INPUT_TYPES, required before optional. A widget turned into
an input keeps its place. Behind a seed stands its "control after generate" word, behind the
required widgets of a loader the word of its upload button.
"""

from typing import Any

from .graph import WorkflowError
from .signature import Signature

CONTROLS = ("fixed", "increment", "decrement", "randomize", "increment-wrap")
UPLOAD_WORDS = ("image", "video", "audio")
RESAVE = "open the workflow in ComfyUI and save it again"


def lay_out(signature: Signature, values: list) -> list[tuple[str | None, Any]]:
    """Give each of a node's ``widgets_values`` its widget's name, or None if it has none.

    Missing values at the end are filled with defaults, as the frontend does.

    Raises:
        WorkflowError: the values do not fit the class; the text completes "node x ...".
    """
    left, places = list(values), []

    def extra(words: tuple[str, ...], place: str) -> None:
        if left and left[0] not in words:
            raise WorkflowError(
                f"has {left[0]!r} among its widget values where {place} ({', '.join(words)}) "
                f"belongs; {RESAVE}")
        places.append((None, left.pop(0) if left else words[0]))

    required = [w for w in signature.widgets.values() if w.required]
    for widget in signature.widgets.values():
        places.append((widget.name, left.pop(0) if left else widget.default))
        if widget.has_seed_control:
            extra(CONTROLS, f"the control of {widget.name!r}")
        if signature.uploads and required[-1:] == [widget] and left and left[0] in UPLOAD_WORDS:
            places.append((None, left.pop(0)))
    if any(value not in ("", None) for value in left):
        raise WorkflowError(
            f"has {len(values)} widget values, more than its class takes ({len(places)}); {RESAVE}")
    return places + [(None, value) for value in left]
