"""All that means out of memory, and nothing else."""

import weakref

import pytest
import torch

from undegrade.nodes.comfyui.wall import walled
from undegrade.pipelines import out_of_memory as module
from undegrade.pipelines.out_of_memory import out_of_memory
from undegrade.pipelines.tiled_prior import Budget


class DriverError(RuntimeError):
    """torch.AcceleratorError, which not every version has and none lets us give a code."""

    def __init__(self, words, code=None):
        super().__init__(words)
        if code is not None:
            self.error_code = code


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (torch.OutOfMemoryError("no room"), True),
        (torch.cuda.OutOfMemoryError("no room"), True),
        (DriverError("CUDA error: out of memory"), True),
        (DriverError("HIP error: Out of Memory"), True),
        (DriverError("CUDA error: ...", 2), True),
        (DriverError("CUDA error: an illegal memory access was encountered", 700), False),
        (DriverError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("the picture of a room that is out of memory"), False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate "
                      "memory: you tried to allocate 8589934592 bytes."), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_what_means_out_of_memory(error, answer, monkeypatch):
    monkeypatch.setattr(module, "ACCELERATOR", DriverError)
    assert out_of_memory(error) is answer


def test_a_node_says_what_to_do_where_the_processors_memory_ends():
    class Node:
        FUNCTION = "run"

        def run(self, size):
            return torch.empty(size)

    node = walled(Node)()
    with pytest.raises(MemoryError, match="does not hold this picture at once; put Tiled Prior"):
        node.run(2**55)
    with pytest.raises(RuntimeError, match="negative dimension"):
        node.run(-1)


def test_where_torch_has_no_such_error_words_tell(monkeypatch):
    monkeypatch.setattr(module, "ACCELERATOR", RuntimeError)  # before torch 2.8
    assert out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not out_of_memory(RuntimeError("CUDA error: invalid argument"))


def test_it_is_torchs_own_class():
    expected = getattr(torch, "AcceleratorError", RuntimeError)
    assert module.ACCELERATOR is expected and out_of_memory(expected("CUDA error: out of memory"))


def test_what_a_failed_call_made_is_gone_when_the_card_is_asked_to_give_back(monkeypatch):
    held, alive, budget = [], [], Budget()

    def heavy():
        activations = torch.zeros(9)
        held.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held[-1]() is not None))
    assert budget.tried(8, heavy) is None and budget.limit == 4 and alive == [False]
    with pytest.raises(torch.OutOfMemoryError):
        budget.tried(1, heavy)
