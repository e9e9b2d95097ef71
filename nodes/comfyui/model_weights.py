"""Models of ComfyUI's made fit for derivatives.

ComfyUI makes, patches and moves weights under inference mode, where several versions of torch
derive wrong values from them; it may leave some off the device; and with dynamic VRAM (its default
on NVIDIA since 0.16) it fetches each inside of the operation that needs it, into memory that is
used again before a derivative comes back to it. So what a derivative goes through is `asked` with
all weights in the device's memory, as tensors of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor as derived

from .host import comfy
from .wall import Slots, freed, normal, put, slots_of

T = TypeVar("T")
Swap = tuple[Slots, str, Tensor, Tensor]  # where, under which name, ours, ComfyUI's
DERIVATIVE_MEMORY = 4  # of what ComfyUI reserves for a plain call: the backward pass keeps it all


class Residency:
    """Which of two models ComfyUI has on the device for us, the network or the autoencoder.

    Where both fit this asks once each; where they do not they take turns.
    """

    def __init__(self) -> None:
        self.current: Any = None

    def bring(self, key: Any, load: Callable[[], object]) -> None:
        """`load()` unless `key` is the one that is there."""
        if self.current != key:
            self.current = None
            outside_derivatives(load)
            self.current = key


def outside_derivatives(work: Callable[[], T], as_comfyui: bool = True) -> T:
    """`work()` in a thread of its own, under inference mode if it is ComfyUI's.

    Under `torch.func` every tensor that is made is bound to the derivative being taken, which
    weights must not be. The transforms belong to a thread, and so does inference mode, without
    which ComfyUI could not write to what it has made in it.
    """

    def quietly() -> T:
        with torch.inference_mode(as_comfyui), torch.no_grad():
            return work()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(quietly).result()


def asked(patchers: Sequence[Any], x: Tensor, ask: Callable[[], Tensor]) -> Tensor:
    """ask(), which goes through these models, as ComfyUI asks; or `differentiable`, where a
    derivative is being taken with respect to x."""
    with on(patchers[0].load_device):
        if derived(x):
            with differentiable(patchers):
                return ask()
        with torch.inference_mode():
            found = ask()
        return freed(found)


def on(device: torch.device) -> AbstractContextManager[object]:
    """The current one of several cards while the block runs, as newer versions of ComfyUI do it."""
    context = getattr(comfy("comfy.model_management"), "cuda_device_context", None)
    return context(device) if context else nullcontext()


def dynamic(patcher: Any) -> bool:
    """Whether its weights are fetched inside of every operation."""
    return hasattr(patcher, "is_dynamic") and patcher.is_dynamic()


def whole(patcher: Any) -> Any:
    """ComfyUI's own stand-in whose weights are loaded as one, for a dynamic patcher; itself where
    it is none, or its loader did not tell ComfyUI how to make one."""
    if not dynamic(patcher) or patcher.cached_patcher_init is None:
        return patcher

    def stand_in() -> Any:
        made = patcher.get_non_dynamic_delegate()
        for module in made.model.modules():
            convert(module)
        return made

    return outside_derivatives(stand_in)


def convert(module: torch.nn.Module) -> None:
    """A layer's tensors into the number format that its model computes in, which ComfyUI notes
    beside them: it leaves them as the file has them, since it means to convert what it fetches."""
    for slots, name, held in slots_of(module):
        wanted = getattr(module, f"{name}_comfy_model_dtype", None)
        if wanted in (None, held.dtype) or type(held) not in (Tensor, torch.nn.Parameter):
            continue
        put(module, slots, name, held.to(wanted))


@contextmanager
def differentiable(patchers: Sequence[Any]) -> Iterator[None]:
    """Every tensor of these models an ordinary one on its device while the block runs.

    They share the memory of ComfyUI's but are other objects: ComfyUI moves a weight by changing
    what the object holds, which a pullback may still need then. Only weights that are fetched in
    every operation otherwise are copies.
    Raises `ValueError` where ComfyUI keeps weights off the device.
    """

    def ordinary() -> list[Swap]:
        return [swap for patcher in patchers for swap in swaps_of(patcher)]

    swaps = outside_derivatives(ordinary, as_comfyui=False)
    try:
        for slots, name, ours, _ in swaps:
            slots[name] = ours
        yield
    finally:
        for slots, name, ours, theirs in swaps:
            if slots.get(name) is ours:
                slots[name] = theirs


def swaps_of(patcher: Any) -> Iterator[Swap]:
    """The tensors of a model and what takes their places."""
    for path, module in patcher.model.named_modules():
        for slots, name, theirs in slots_of(module):
            ours = theirs
            if slots is module._parameters and not at(theirs, patcher.load_device):
                ours = fetched(patcher, f"{path}.{name}" if path else name)
            ours = normal(ours)
            if slots is module._parameters and type(ours) is Tensor:
                ours = torch.nn.Parameter(ours, requires_grad=False)
            yield slots, name, ours, theirs


def at(tensor: Tensor, device: torch.device) -> bool:
    """Whether it lies there; a device without a number is its first."""
    where = tensor.device
    return where.type == device.type and (where.index or 0) == (device.index or 0)


def fetched(patcher: Any, key: str) -> Tensor:
    """A weight, patched, on the device. Raises `ValueError` where ComfyUI keeps it off."""
    if not dynamic(patcher):
        raise ValueError(
            f"ComfyUI keeps weights of {type(patcher.model).__name__} off {patcher.load_device} "
            f"({key}), so no derivative can be taken through it; start ComfyUI without --novram."
        )
    device = patcher.load_device
    return patcher.patch_weight_to_device(
        key, device_to=device, return_weight=True, force_cast=True
    )


def loose(thing: Any) -> Any:
    """A shallow copy of an object of ComfyUI's, its inference tensors as ordinary ones."""
    own = copy.copy(thing)
    vars(own).update(freed(vars(own)))
    return own


def loose_conditioning(conds: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """A guider's prepared conditioning with ordinary tensors, on copies."""
    own = freed(conds)
    for entry in (entry for entries in own.values() for entry in entries or []):
        entry["model_conds"] = {k: loose(c) for k, c in entry.get("model_conds", {}).items()}
    return own
