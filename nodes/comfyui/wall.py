"""Where ComfyUI's inference mode ends, and where a torch that is too old is refused.

ComfyUI runs every node under `torch.inference_mode()`, in which torch 2.8 to 2.11 derive wrong
values or zeros without a word as soon as a constant takes part. So whatever ComfyUI calls of ours
enters through `outside`: no pipeline, model or update ever sees that mode or a tensor made in it.
"""

from __future__ import annotations

import functools
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ...pipelines.out_of_memory import PROCESSOR
from ...pipelines.process_wide import ProcessWide

Slots = dict[str, Any]  # where a module keeps its parameters, its buffers or its plain attributes

LOWEST = (2, 7)  # the oldest torch that restores what the newest does: `make matrix`


def too_old(version: str) -> str | None:
    """What a user of this version of torch is told; None where it is new enough."""
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if found >= LOWEST:
        return None
    return (
        f"Undegrade needs torch {LOWEST[0]}.{LOWEST[1]} or newer and found {version}, which was "
        "never shown to restore the right pictures; update torch in ComfyUI's environment."
    )


TOO_LARGE = (
    "the computer's memory does not hold this picture at once; put Tiled Prior before this node, "
    "choose smaller tiles where there are some, or give a smaller picture"
)
REFUSED = too_old(torch.__version__)
if REFUSED:
    logging.getLogger(__name__).warning(REFUSED)


@contextmanager
def left() -> Iterator[None]:
    """A block outside of inference mode, without gradients, and `repeatable`."""
    with torch.inference_mode(False), torch.no_grad(), repeatable():
        yield


def repeatable() -> AbstractContextManager[None]:
    """A block in which float32 is float32, and two runs on a card give the same bits.

    Without it cuDNN's convolutions take TF32 (10 bits of mantissa), and their derivatives add up in
    whatever order. What was chosen holds again afterwards, however the user or ComfyUI had said it:
    after the last block, where several threads are in one, since torch knows one choice for all.
    """
    return REPEATABLE.chosen()


def choose(restored: ExitStack) -> None:
    """TF32 off, cuDNN deterministic and not chosen by the clock; closing `restored` takes it
    back."""
    try:
        if torch.get_float32_matmul_precision() == "medium":  # which allow_tf32 makes "high"
            restored.callback(torch.set_float32_matmul_precision, "medium")
    except RuntimeError:  # was said in the newer way, which is read below
        pass
    said: list[tuple[Any, str, Any, Any]] = [
        (torch.backends.cudnn, "deterministic", torch.backends.cudnn.deterministic, True),
        (torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark, False),
    ]
    for flags, newer in (
        (torch.backends.cudnn, getattr(torch.backends.cudnn, "conv", None)),
        (torch.backends.cuda.matmul, torch.backends.cuda.matmul),
    ):
        try:
            said.append((flags, "allow_tf32", flags.allow_tf32, False))
        except RuntimeError:  # was said in torch's newer way, which does not mix with this one
            assert newer
            said.append((newer, "fp32_precision", newer.fp32_precision, "ieee"))
    for owner, name, kept, wanted in said:
        if kept != wanted:
            restored.callback(setattr, owner, name, kept)
            setattr(owner, name, wanted)
    for newer in newer_choices():  # left to torch.backends.fp32_precision by the older way
        if newer.fp32_precision not in ("none", "ieee"):
            restored.callback(setattr, newer, "fp32_precision", newer.fp32_precision)
            newer.fp32_precision = "ieee"


def newer_choices() -> list[Any]:
    """Where torch, since 2.9, keeps how each kind of operation rounds float32: cuDNN, and oneDNN on
    the CPU, whose products follow `torch.set_float32_matmul_precision`."""
    owners = (
        (torch.backends.cudnn, "conv"),
        (torch.backends.cudnn, "rnn"),
        (torch.backends.mkldnn, "matmul"),
        (torch.backends.mkldnn, "conv"),
    )
    return [getattr(owner, name) for owner, name in owners if hasattr(owner, name)]


REPEATABLE = ProcessWide(choose)


def outside(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with inference mode `left` and its arguments `freed`.

    Raises `RuntimeError` where torch is `too_old`, `MemoryError` where the computer's memory does
    not hold what was asked for.
    """

    @functools.wraps(function)
    def walled(*args: Any, **kwargs: Any) -> Any:
        if REFUSED:
            raise RuntimeError(REFUSED)
        with left():
            given = {name: freed(value) for name, value in kwargs.items()}
            try:
                return function(*map(freed, args), **given)
            except RuntimeError as error:
                if PROCESSOR not in str(error):
                    raise
                raise MemoryError(TOO_LARGE) from error

    return walled


def walled(node: type) -> type:
    """The node class, whose function now runs `outside`."""
    function = node.FUNCTION  # type: ignore[attr-defined]
    setattr(node, function, outside(getattr(node, function)))
    return node


def freed(value: Any) -> Any:
    """The value with every inference tensor in it as a `normal` one, in dicts, lists and tuples.

    What is a container is a new one, so that nothing of the caller's changes. Objects are left as
    they are: those of ours were made behind the wall.
    """
    if isinstance(value, Tensor):
        return normal(value) if value.is_inference() else value
    if type(value) is dict:
        return {key: freed(inside) for key, inside in value.items()}
    if type(value) in (list, tuple):
        return type(value)(freed(inside) for inside in value)
    return value


def normal(tensor: Tensor) -> Tensor:
    """An inference tensor's values in a tensor that is none, for use outside of inference mode.

    They share their memory, as a view does: an hour of video is not copied. Nothing here writes to
    what came in. Tensors of a kind of their own, such as quantised ones, are copied,
    and so are those that torch conjugates or negates as they are read.
    """
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and tensor.layout == torch.strided
    if not plain or tensor.is_conj() or tensor.is_neg():
        return tensor.clone()
    place = tensor.storage_offset(), tensor.size(), tensor.stride()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(
        tensor.untyped_storage(), *place
    )


def slots_of(module: nn.Module) -> Iterator[tuple[Slots, str, Tensor]]:
    """Every tensor that a module itself holds, and where."""
    for slots in (module._parameters, module._buffers, vars(module)):
        yield from [(slots, k, held) for k, held in slots.items() if isinstance(held, Tensor)]


def put(module: nn.Module, slots: Slots, name: str, tensor: Tensor) -> None:
    """A tensor into one of `slots_of` a module: among its parameters as one."""
    is_weight = slots is module._parameters
    slots[name] = nn.Parameter(tensor, requires_grad=False) if is_weight else tensor


def settle(network: nn.Module) -> None:
    """Every inference tensor of a network replaced by a normal one on the same memory.

    ComfyUI moves weights under inference mode, which makes them such tensors.
    """
    with torch.inference_mode(False), torch.no_grad():
        for module in network.modules():
            for slots, name, held in slots_of(module):
                if held.is_inference():
                    put(module, slots, name, normal(held))
