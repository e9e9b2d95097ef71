"""How much memory a call takes."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Footprint(TorchDispatchMode):
    """The most bytes of tensors made inside the block that lived at one time, in ``peak``.

    The same on every run and machine, since it counts tensors and not what an allocator does; the
    kernels' own workspace is not in it.
    """

    def __init__(self) -> None:
        """Nothing made yet."""
        super().__init__()
        self.peak = self._live = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, function: Callable, types: Iterable, args: tuple = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        """Run one operation and count what it made."""
        before = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs))
                  if isinstance(t, Tensor)}
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor, before)
        return made

    def _count(self, tensor: Tensor, before: set[int]) -> None:
        storage = tensor.untyped_storage()
        key, size = storage.data_ptr(), storage.nbytes()
        if key in before and key not in self._users:
            return  # a view of what was there before the block
        if not self._users[key]:
            self._live += size
            self.peak = max(self.peak, self._live)
        self._users[key] += 1
        weakref.finalize(tensor, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            del self._users[key]
            self._live -= size
