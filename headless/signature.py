"""What a node class takes and gives, read from its ``INPUT_TYPES`` and ``RETURN_TYPES``."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

# The value a widget has when its declaration names no default. IMAGECOMPARE, which only shows
# pictures, is sent with the two addresses it begins with.
EMPTY = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False, "IMAGECOMPARE": ["", ""]}
SEEDS = ("seed", "noise_seed")
UPLOADS = ("image_upload", "animated_image_upload", "video_upload", "audio_upload")


@dataclass(frozen=True)
class Input:
    """One declared input: its name, its socket type or list of choices, and its options."""

    name: str
    kind: Any
    required: bool
    options: Mapping[str, Any]

    @property
    def choices(self) -> list | None:
        """The values of a drop-down list (old style: the type is the list), else None."""
        if isinstance(self.kind, list | tuple):
            return list(self.kind)
        return list(self.options.get("options", ())) if self.kind == "COMBO" else None

    @property
    def is_widget(self) -> bool:
        """Whether the input shows a widget, hence owns a place in ``widgets_values``."""
        known = self.kind in EMPTY if isinstance(self.kind, str) else False
        return (known or self.choices is not None) and not self.options.get("forceInput")

    @property
    def has_seed_control(self) -> bool:
        """Whether a "control after generate" value follows this one in ``widgets_values``."""
        named = self.kind == "INT" and self.name in SEEDS
        return bool(self.options.get("control_after_generate", named))

    @property
    def default(self) -> Any:
        """What a new node's widget holds."""
        if "default" in self.options:
            return self.options["default"]
        return next(iter(self.choices or ()), EMPTY.get(str(self.kind)))

    def read(self, value: Any, limits: bool = True) -> Any:
        """Bring a literal to the declared type, as ComfyUI does but without losing digits.

        Args:
            value: the literal.
            limits: whether range and list of choices are checked, too.

        Raises:
            TypeError: the value is of another kind; the text completes "input x ...".
            ValueError: outside [min, max], or not in the list.
        """
        if self.choices is not None:
            return self._chosen(value) if limits else value
        if not self.is_widget and self.kind not in EMPTY:
            if self.kind == "*":
                return value
            raise TypeError(f"takes a link of type {self.kind}, not the value {value!r}")
        value = READERS[self.kind](value)
        if limits and self.kind in ("INT", "FLOAT"):
            low, high = self.options.get("min", -math.inf), self.options.get("max", math.inf)
            if value < low:
                raise ValueError(f"is {value}; it must be at least {low}")
            if value > high:
                raise ValueError(f"is {value}; it must be at most {high}")
        return value

    def _chosen(self, value: Any) -> Any:
        if value in (choices := self.choices or []):
            return choices[choices.index(value)]  # 4.0 becomes the 4 of the list
        shown = ", ".join(map(repr, choices[:20])) + (", ..." if len(choices) > 20 else "")
        raise ValueError(f"is {value!r}, which is not one of {shown or 'an empty list'}")

    def parse(self, text: str) -> Any:
        """Read what a user typed behind ``--set``; text that does not fit is left as it is."""
        if self.choices is not None:
            return next((c for c in self.choices if str(c) == text), text)
        words = {"true": True, "yes": True, "on": True, "1": True,
                 "false": False, "no": False, "off": False, "0": False}
        readers: dict[str, Callable] = {
            "INT": lambda t: int(t, 0), "FLOAT": float, "BOOLEAN": lambda t: words[t.lower()]}
        try:
            return readers.get(str(self.kind), str)(text)
        except (ValueError, KeyError):
            return text


def _integer(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise TypeError(f"takes a whole number, not {value!r}")


def _number(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise TypeError(f"takes a finite number, not {value!r}")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise TypeError(f"takes text, not {value!r}")


def _truth(value: Any) -> bool:
    if value in (True, False) and isinstance(value, int | float):
        return bool(value)
    raise TypeError(f"takes true or false, not {value!r}")


def _unread(value: Any) -> Any:
    return value


READERS = {"INT": _integer, "FLOAT": _number, "STRING": _text, "BOOLEAN": _truth,
           "IMAGECOMPARE": _unread}


class Signature:
    """The inputs and outputs of one V1 node class."""

    def __init__(self, node_class: type):
        """Read the declarations of ``node_class`` once."""
        self.node_class: Any = node_class
        declared = self.node_class.INPUT_TYPES()
        self.hidden: dict[str, str] = dict(declared.get("hidden", {}))
        self.outputs: tuple = tuple(self.node_class.RETURN_TYPES)
        self.is_output: bool = getattr(node_class, "OUTPUT_NODE", False) is True
        self.inputs: dict[str, Input] = {
            name: Input(name, spec[0], group == "required", spec[1] if len(spec) > 1 else {})
            for group in ("required", "optional")
            for name, spec in declared.get(group, {}).items()
        }

    @cached_property
    def widgets(self) -> dict[str, Input]:
        """The inputs that own a place in ``widgets_values``, in its order."""
        return {name: i for name, i in self.inputs.items() if i.is_widget}

    @cached_property
    def checked(self) -> set[str]:
        """The parameters of VALIDATE_INPUTS: inputs whose limits the class checks itself."""
        if not hasattr(self.node_class, "VALIDATE_INPUTS"):
            return set()
        parameters = inspect.signature(self.node_class.VALIDATE_INPUTS).parameters.values()
        takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
        return {p.name for p in parameters} | (set(self.inputs) if takes_all else set())

    @property
    def uploads(self) -> bool:
        """Whether the frontend adds an upload button (one more value) after the required ones."""
        return any(i.options.get(key) for i in self.inputs.values() for key in UPLOADS)


class Catalog:
    """Every node type the command knows: the pack's and the stock ones.

    Args:
        classes: node id -> V1 node class.
        titles: node id -> the name a user sees.
    """

    def __init__(self, classes: Mapping[str, type], titles: Mapping[str, str]):
        """Keep the menus; a class is read when a workflow first asks for it."""
        self.classes = classes
        self._titles = titles
        self._signatures: dict[str, Signature] = {}

    def __contains__(self, node_type: object) -> bool:
        """Whether the type is known."""
        return node_type in self.classes

    def __getitem__(self, node_type: str) -> Signature:
        """The signature of a known type."""
        if node_type not in self._signatures:
            self._signatures[node_type] = Signature(self.classes[node_type])
        return self._signatures[node_type]

    def title(self, node_type: str) -> str:
        """The name a user sees on a new node of that type."""
        return self._titles.get(node_type, node_type)


def accepts(received: Any, expected: Any) -> bool:
    """Whether an output of type ``received`` may feed an input of type ``expected``.

    "*" on either side fits everything; "A,B" fits where the two have a name in common; a
    type object whose ``__ne__`` says so (the "any type" of many packs) fits as in ComfyUI.
    """
    if not received != expected or "*" in (received, expected):  # noqa: SIM202
        return True
    if not isinstance(received, str) or not isinstance(expected, str):
        return False
    names = [{name.strip() for name in kind.split(",")} for kind in (received, expected)]
    return not names[0].isdisjoint(names[1])
