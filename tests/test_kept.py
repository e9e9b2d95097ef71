"""Recordings that outlive a run: found again by the next, and gone for each of the reasons."""

import gc
import sys
import threading
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from node_calls import measured
from test_recorded import BYTES, PLAYED, Cancelled, Dynamic, prior, restored, traced

from undegrade.models.pixel import PixelNetwork
from undegrade.models.prior import ErrorCurve, MeasuredPrior
from undegrade.nodes.comfyui import host, kept, placed_networks, recorded
from undegrade.nodes.comfyui.placed_networks import patcher_of

__all__ = ["prior", "traced"]  # fixtures
M = measured(height=16, width=16)[1]


def run(prior, m=M, **given):
    return restored(prior, measurement=m, steps=6, **given)


def launched(prior, **given):
    """How often a run's network was launched, and not played back."""
    PLAYED.clear()
    run(prior, **given)
    return PLAYED["PixelPrior", True]


def test_a_second_run_plays_the_firsts_recordings(prior, traced, monkeypatch):
    assert launched(prior) > 0 == launched(prior, seed=1)
    assert traced.recordings.known
    found = run(prior, seed=2)
    wrapped = MeasuredPrior(prior, ErrorCurve({1: ((0.1, 0.1), (1.0, 0.2))}))
    assert launched(wrapped) == 0, "two priors around one network"
    monkeypatch.setattr(recorded, "wanted", lambda device: False)
    assert torch.equal(found, run(prior, seed=2))


def test_two_sizes_in_turn_are_both_kept(prior, traced):
    other = measured(height=24, width=32)[1]
    assert launched(prior) > 0 < launched(prior, m=other)
    assert launched(prior) == 0 == launched(prior, m=other)


def test_weights_that_are_changed_where_they_lie_are_read(prior, traced, monkeypatch):
    run(prior)
    prior.network.out.weight.mul_(1.5)
    assert launched(prior) == 0
    found = run(prior)
    monkeypatch.setattr(recorded, "wanted", lambda device: False)
    assert torch.equal(found, run(prior))


def other_weight(network):
    network.out.weight = torch.nn.Parameter(network.out.weight.clone(), requires_grad=False)


def other_layer(network):
    class Own(torch.nn.Conv2d):
        pass

    network.out.__class__ = Own


def in_one_place(network):
    """A layer of the same tensors that does something else."""
    network.inp.padding_mode = "circular"


def hooked(network):
    network.out.register_forward_hook(lambda *_: None)


def patched(network):
    network.out._conv_forward = network.out._conv_forward


def buffered(network):
    network.register_buffer("more", torch.zeros(1))


def turned(network):
    """Other values by the same memory."""
    network.inp.weight.data = network.inp.weight.data.transpose(2, 3)


CHANGES = {
    "strides": turned,
    "weights elsewhere": other_weight,
    "bfloat16": lambda network: network.bfloat16(),
    "layout": lambda network: network.to(memory_format=torch.channels_last),
    "layer": other_layer,
    "padding": in_one_place,
    "hook": hooked,
    "patch": patched,
    "buffer": buffered,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_recording_reads_is_as_it_was(name, prior, traced, monkeypatch):
    before = kept.read_by(prior.network)
    assert before is not None and before == kept.read_by(prior.network)
    run(prior)
    CHANGES[name](prior.network)
    assert kept.read_by(prior.network) != before
    found = run(prior)
    monkeypatch.setattr(recorded, "wanted", lambda device: False)
    assert torch.equal(found, run(prior))
    assert not traced.recordings.known or name not in ("layer", "hook", "patch")


def test_how_torch_computes_and_whose_thread_it_is(prior, monkeypatch):
    network, found = prior.network, []
    before = kept.read_by(network)
    products = torch.backends.cuda.matmul
    shorter = [(partial(setattr, products, n), getattr(products, n)) for n in kept.SHORTER]
    for say, own in (
        (torch.set_default_dtype, torch.get_default_dtype()),
        (partial(torch.set_autocast_dtype, "cuda"), torch.get_autocast_dtype("cuda")),
        (partial(torch.set_autocast_enabled, "cuda"), False),
        (partial(setattr, torch.backends.cudnn, "enabled"), True),
        *shorter,
    ):
        say(torch.bfloat16 if isinstance(own, torch.dtype) else not own)
        other = kept.read_by(network)
        say(own)
        assert other != before == kept.read_by(network), say
    other = threading.Thread(target=lambda: found.append(kept.read_by(network)))
    other.start(), other.join()
    assert found != [before] and kept.read_by(network) == before
    monkeypatch.setitem(sys.modules, kept.CLEARS, ModuleType(kept.CLEARS))
    assert kept.read_by(network) is None


def test_fetched_weights_another_prior_and_a_taken_shelf_keep_nothing(prior, traced):
    with traced.lent(prior.network) as lent, traced.lent(prior.network) as second:
        assert lent is traced.recordings and second is None
        run(prior)
        assert not lent.known, "a run beside it has its own"
        traced.throw_away()
    run(prior)
    other = type(prior)(PixelNetwork((8, 8), 1, 8).eval().requires_grad_(False), prior.spec)
    setattr(other.network, placed_networks.PATCHER, Dynamic())
    run(other)
    assert traced.owner() is prior.network
    assert kept.lasting_network(MeasuredPrior(prior, ErrorCurve({1: ((0.1, 0.1),)}))) is None


def test_a_run_that_is_cancelled_or_moves_its_weights_keeps_nothing(prior, traced, monkeypatch):
    run(prior)
    with monkeypatch.context() as patch, pytest.raises(Cancelled):

        def interrupted():
            raise Cancelled

        patch.setattr(host, "check_interrupted", interrupted)
        run(prior)
    assert not traced.recordings.known and not traced.taken.locked()
    run(prior)
    with traced.lent(prior.network):
        other_weight(prior.network)
    assert not traced.recordings.known


def test_what_takes_too_much_goes_with_its_run(prior, traced, monkeypatch):
    BYTES[0] = kept.MOST_BYTES + 1
    assert launched(prior) > 0 < launched(prior)
    BYTES[0] = kept.MOST_BYTES
    assert launched(prior) > 0 == launched(prior)
    traced.close()
    with monkeypatch.context() as patch:

        def unknown(_):
            raise RuntimeError("no snapshot")

        patch.setattr(type(traced.recordings), "held", property(unknown))
        assert launched(prior) > 0 < launched(prior)
    monkeypatch.setattr(kept, "MOST", 0)
    assert launched(prior) > 0 < launched(prior)


def test_it_goes_with_its_network(prior, traced):
    network = prior.network
    run(type(prior)(network, prior.spec))
    assert traced.recordings.known
    assert traced.owner() is network
    other = PixelNetwork((8, 8), 1, 8).eval().requires_grad_(False)
    run(type(prior)(other, prior.spec))
    assert traced.owner() is other, "one network's at a time"
    del other
    gc.collect()
    assert not traced.recordings.known and traced.read is None


class ModelPatcher:
    """ComfyUI's, as far as it moves weights."""

    def __init__(self, model, load_device, offload_device):
        self.model, self.done = model, []

    def load(self, *_, **__):
        self.done.append(None)

    def partially_unload(self, device, memory_to_free=0, force_patch_weights=False):
        self.done.append((device, memory_to_free))
        return 7

    def unpatch_model(self, device_to=None, unpatch_weights=True):
        self.done.append((device_to, unpatch_weights))


MOVES = {
    "load": lambda p: p.load("cuda", full_load=True),
    "part": lambda p: p.partially_unload("cpu", 5),
    "unload": lambda p: p.unpatch_model("cpu", unpatch_weights=True),
}


@pytest.mark.parametrize("name", MOVES)
def test_comfyuis_moves_throw_it_away_and_are_done(name, prior, traced):
    patching = SimpleNamespace(ModelPatcher=ModelPatcher)
    patcher = patcher_of(patching, prior.network, "cuda", "cpu")
    run(prior)
    patcher.unpatch_model("cpu", unpatch_weights=False)
    assert traced.recordings.known, "ComfyUI does that at every load, and nothing moves"
    answer = MOVES[name](patcher)
    assert not traced.recordings.known and len(patcher.done) == 2
    assert answer == (7 if name == "part" else None)


def test_no_graph_goes_while_another_is_recorded(prior, traced, monkeypatch):
    run(prior)
    with monkeypatch.context() as patch:
        patch.setattr(kept, "recording", lambda: True)
        traced.throw_away()
    assert traced.recordings.known
    traced.throw_away()
    assert not traced.recordings.known
