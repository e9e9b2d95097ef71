"""A graphics card that is not there: tensors that claim to lie on it, with real numbers.

Under `pretended()` a tensor on `CARD` holds a tensor of the CPU, which does the arithmetic. What a
card refuses is refused: tensors on both sides in one operation (but for what torch allows: numbers
of no dimension in pointwise operations, and indices). What makes the program wait for the card is
counted: values read back, and copies, since those of ordinary memory wait in both directions.

The card is called "lazy:0": of the devices that nobody has it is the one for which every build of
torch brings what indexing and autograd ask of a device.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

CARD, CPU = torch.device("lazy:0"), torch.device("cpu")
ROOT = Path(__file__).resolve().parent.parent
aten = torch.ops.aten
READS = {  # operations that hand the host a number, or need one to know their result's shape
    *(aten._local_scalar_dense, aten.equal, aten.nonzero, aten.masked_select, aten.unique_dim),
    *(aten._unique2, aten.unique_consecutive, aten.is_nonzero, aten._linalg_check_errors),
    *(aten.bincount, aten.repeat_interleave),
}  # fmt: skip
SOLVERS = ("_linalg_eigh", "linalg_", "_linalg_")  # they ask the card whether it went well
INDEXED = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index)
COPIES = (aten._to_copy, aten.copy_)


class MixedDevicesError(RuntimeError):
    """Tensors of the card and of the CPU met."""


class Pretended(torch.Tensor):
    """A tensor that claims to lie on the card; `held` is the CPU's."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Pretended:
        with torch.inference_mode(held.is_inference()):  # a view of a normal tensor is normal
            made = torch.Tensor._make_wrapper_subclass(
                cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(),
                dtype=held.dtype, layout=held.layout, device=CARD, requires_grad=held.requires_grad,
            )  # fmt: skip
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"Pretended({self.held!r})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec)

    def tolist(self) -> list:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} was asked of a pretended tensor outside of `pretended()`.")


@dataclass
class Waits:
    """How often the host waited for the card, by the line of the pack that asked.

    reads: numbers and tensors that came from the card. uploads: tensors that went there.
    """

    reads: Counter[str] = field(default_factory=Counter)
    uploads: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        self.reads.clear(), self.uploads.clear()


class Card(TorchDispatchMode):
    """Every operation while it is entered; see this file's head."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Waits()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = tensors_of((*args, *kwargs.values()))
        if not any(isinstance(t, Pretended) for t in tensors) and not names_device(args, kwargs):
            return func(*args, **kwargs)  # nothing of it lies on the card
        if is_composite(func):  # as under inference mode
            with self:
                return func.decompose(*args, **kwargs)
        if func.overloadpacket is aten._efficientzerotensor:  # zeros without memory of their own
            func = aten.zeros.default
        packet = func.overloadpacket
        target = placed(func, packet, tensors, args, kwargs)
        if packet in COPIES:
            self.count_copy(packet, args, kwargs, target)
        elif any(isinstance(t, Pretended) for t in tensors):
            self.count_reads(func, packet, args)
        given, named = held(args), {name: held(value) for name, value in kwargs.items()}
        if "device" in named:
            named = {**named, "device": CPU, "pin_memory": False}
        out = func(*given, **named)
        return adopted(out, target, args, given)

    def count_copy(self, packet, args, kwargs, target) -> None:
        """A copy between the two sides."""
        source = args[0] if packet is aten._to_copy else args[1]
        if not isinstance(source, Pretended) and kwargs.get("non_blocking"):
            return  # CUDA takes what is pinned, or small, and lets the host go on
        if isinstance(source, Pretended) and target == CPU:
            self.waits.reads[asking()] += 1
        elif not isinstance(source, Pretended) and target == CARD:
            self.waits.uploads[asking()] += 1

    def count_reads(self, func, packet, args) -> None:
        """What hands the host a number, and indices that must go to the card first."""
        name = packet.__name__
        solves = name.startswith(SOLVERS) and "norm" not in name
        if solves or (packet in READS and not keeps_size(func, args)):
            self.waits.reads[asking()] += 1
        if packet in INDEXED:
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.waits.reads[asking()] += 1
                if index is not None and not isinstance(index, Pretended):
                    self.waits.uploads[asking()] += 1


def names_device(args, kwargs) -> bool:
    """Whether an operation says where its result shall lie."""
    return kwargs.get("device") is not None or any(isinstance(a, torch.device) for a in args)


@cache
def is_composite(func) -> bool:
    """Whether an operation is made of others, which are looked at in its place."""
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


def keeps_size(func, args) -> bool:
    """Whether a repetition was told how large its result is."""
    return func._schema.name == "aten::repeat_interleave" and not isinstance(args[0], Pretended)


def placed(func, packet, tensors, args, kwargs) -> torch.device:
    """Where the result lies. Raises `MixedDevicesError` where two devices meet."""
    if kwargs.get("device") is not None:
        return CARD if torch.device(kwargs["device"]).type == CARD.type else CPU
    if packet is aten.copy_:
        return CARD if isinstance(args[0], Pretended) else CPU
    if not any(isinstance(t, Pretended) for t in tensors):
        return CPU
    others = [t for t in tensors if not isinstance(t, Pretended)]
    if packet in INDEXED and isinstance(args[0], Pretended):
        others = [t for t in others if all(t is not index for index in args[1])]
    pointwise = torch.Tag.pointwise in func.tags or packet in INDEXED
    if any(t.ndim or not pointwise for t in others):
        shapes = [(tuple(t.shape), t.device.type) for t in tensors]
        raise MixedDevicesError(f"{func} got {shapes}, asked for by {asking()}.")
    written = args[0] if func._schema.is_mutable and args else None
    if isinstance(written, torch.Tensor) and not isinstance(written, Pretended):
        raise MixedDevicesError(f"{func} would write to the CPU, asked for by {asking()}.")
    return CARD


def adopted(out, target, args, given):
    """The results as the card's, those that were written in place as they came."""
    if isinstance(out, torch.Tensor) and all(out is not new for new in given):
        return Pretended(out.resolve_conj().resolve_neg()) if target == CARD else out
    came = {id(new): old for old, new in zip(tensors_of(args), tensors_of(given), strict=True)}

    def adopt(t):
        if isinstance(t, (list, tuple)):
            return type(t)(map(adopt, t))
        if not isinstance(t, torch.Tensor) or id(t) in came:
            return came.get(id(t), t) if isinstance(t, torch.Tensor) else t
        return Pretended(t.resolve_conj().resolve_neg()) if target == CARD else t

    return adopt(out)


def tensors_of(values) -> list[torch.Tensor]:
    """Those among an operation's arguments, which are lists of them at most; torch's own walk
    through them takes several times as long as the rest of this file."""
    found = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += [t for t in value if isinstance(t, torch.Tensor)]
    return found


def held(value):
    """What the CPU computes with: `Pretended.held` in place of each."""
    if isinstance(value, Pretended):
        return value.held
    return type(value)(map(held, value)) if type(value) in (list, tuple) else value


def asking() -> str:
    """The innermost line of the pack on the stack, as "pipelines/subdaps/sampler.py predict"."""
    frame = sys._getframe(1)
    while frame:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.relative_to(ROOT).parts[0] in PARTS:
            return f"{path.relative_to(ROOT).as_posix()} {frame.f_code.co_name}"
        frame = frame.f_back
    return "a test"


PARTS = ("models", "nodes", "pipelines", "headless")


@contextmanager
def pretended() -> Iterator[Waits]:
    """The card is there while the block runs; yields what waited for it."""
    autocast, card = torch.autocast, Card()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) is a copy, and is seen
    torch.autocast = lambda device_type, **known: autocast(
        "cpu" if device_type == CARD.type else device_type, **known
    )
    try:
        with card:
            yield card.waits
    finally:
        torch._C._set_only_lift_cpu_tensors(False)
        torch.autocast = autocast
