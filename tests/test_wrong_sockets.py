"""What is no such thing, at every socket of every node: one sentence, and no address in memory."""

import pytest
from every_node import comfyui, models, small_inputs
from node_calls import WIDGETS, call, inputs_of

from undegrade import NODE_CLASS_MAPPINGS

__all__ = ["comfyui", "models"]  # fixtures
pytestmark = pytest.mark.usefixtures("comfyui")


def sockets(node_id):
    return [name for name, (kind, *_) in inputs_of(node_id).items()
            if isinstance(kind, str) and kind not in WIDGETS]  # fmt: skip


@pytest.mark.parametrize("node_id", [n for n in NODE_CLASS_MAPPINGS if sockets(n)])
def test_a_wrong_thing_is_named_by_its_kind(node_id):
    given = small_inputs(node_id)
    either = {"image", "latent"} if node_id == "UndegradeTileSplitter" else set()
    for name in sockets(node_id):
        rest = {k: v for k, v in given.items() if k not in either}
        with pytest.raises((TypeError, ValueError)) as raised:
            call(node_id, **{**rest, name: object()})
        assert " at 0x" not in str(raised.value) and "object" in str(raised.value), (name, raised)
