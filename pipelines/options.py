"""One declaration per option: its default, interval, tooltip and check.

A frozen dataclass that inherits `Options` and declares its fields with `option` is the single
source
of truth for a tunable object: the algorithm reads the values, `nodes/widgets.py` draws the widgets
from the same fields, and `__post_init__` refuses what lies outside the interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Option:
    """What is known of one option beside its default."""

    tooltip: str
    min: float | None = None
    max: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False


def option(default: Any, tooltip: str, **known: Any) -> Any:
    """A dataclass field with the interval, choices and tooltip of `Option`."""
    return field(default=default, metadata={"option": Option(tooltip, **known)})


def describe(cls: type) -> dict[str, tuple[Any, Option]]:
    """Name -> (default, Option) of every field of `cls` that was declared with `option`."""
    declared = [f for f in fields(cls) if "option" in f.metadata]
    return {f.name: (f.default, f.metadata["option"]) for f in declared}


@dataclass(frozen=True, eq=False)
class Options:
    """Base of frozen option dataclasses: checks every declared field when one is made.

    Raises `ValueError` with what came, what is allowed and the option's own explanation.
    """

    def __post_init__(self) -> None:
        for name, (_, known) in describe(type(self)).items():
            check_option(f"{type(self).__name__}.{name}", getattr(self, name), known)


def check_option(name: str, value: Any, known: Option) -> None:
    """Raise `ValueError` where `value` is not allowed by `known`."""
    if known.choices:
        if value not in known.choices:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(known.choices)}.")
        return
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {value}; give a finite number. {known.tooltip}")
    low = known.min is not None and value < known.min
    if low or (known.max is not None and value > known.max):
        interval = f"[{known.min}, {known.max}]"
        raise ValueError(f"{name} is {value}; give a number in {interval}. {known.tooltip}")
