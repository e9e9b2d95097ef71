"""What is computed once and kept with whom it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TypeVar

import torch

from .replay import recording

T = TypeVar("T")


class Constants:
    """An owner of values that follow from its fields."""

    def constant(self, key: Hashable, make: Callable[[], T]) -> T:
        """`make()`, computed once per key and kept with the owner, such as a transfer function.

        key: what the value depends on beside the owner's fields: size, dtype, device.
        A tensor can be used inside and outside of inference mode, wherever it was made.
        Raises `RuntimeError` while a graph is recorded, where nothing gets its values.
        """
        constants = vars(self).setdefault("_constants", {})
        if key not in constants:
            if recording():
                raise RuntimeError(f"{type(self).__name__} cannot make {key} in a recording.")
            with torch.inference_mode(False):
                constants[key] = make()
        return constants[key]
