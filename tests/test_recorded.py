"""Runs whose work is played back: on the CPU a trace of torch's operations stands for the graph."""

from collections import Counter

import pytest
import torch
from every_operator import OPERATORS
from node_calls import call, measured, photo
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import MultiResolutionPrior, PriorSpec
from undegrade.nodes.comfyui import host, kept, placed_networks, recorded
from undegrade.nodes.comfyui.recorded import plain, replayed
from undegrade.pipelines import answers, constants
from undegrade.pipelines.operators.at_least import AtLeast
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.replay import Recordings, ReplayedPrior, State, launched
from undegrade.pipelines.tiled_prior import TiledPrior


class Tape(TorchDispatchMode):
    """Torch's operations on some tensors, which can be done on others."""

    def __init__(self, work, tensors):
        super().__init__()
        self.inputs, self.done = tensors, []
        with self:
            self.output = work(*tensors)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, out))
        return out

    def play(self, tensors):
        now = {id(old): new for old, new in zip(self.inputs, tensors, strict=True)}

        def of(old):
            return now.get(id(old), old)

        for func, args, kwargs, out in self.done:
            found = func(*tree_map(of, args), **tree_map(of, kwargs))
            for old, new in zip(tree_flatten(out)[0], tree_flatten(found)[0], strict=True):
                now[id(old)] = new
        return of(self.output)


class Traces(Recordings):
    """Recordings that note torch's operations in place of a card's, and do them again."""

    def __call__(self, key, work, *tensors):
        key = (key, *((t.shape, t.dtype) for t in tensors))
        kind = PixelPrior if isinstance(key[0][0], tuple) else type(key[0][0])
        PLAYED[kind.__name__, key not in self.known] += 1
        if key not in self.known:
            self.known[key] = State.LAUNCHED
            return work(*tensors)
        if self.known[key] is State.LAUNCHED:
            with pytest.MonkeyPatch.context() as patch:
                for module in (constants, answers):
                    patch.setattr(module, "recording", lambda: True)
                self.known[key] = Tape(work, [torch.full_like(t, 0.1) for t in tensors])
        return self.known[key].play(tensors)

    def close(self):
        super().close()
        if not self.lasting:
            CLOSED.append(self)

    @property
    def held(self):
        return BYTES[0]


PLAYED, CLOSED, BYTES = Counter(), [], [0]


@pytest.fixture
def traced(monkeypatch):
    """Every run of a node is played back."""
    PLAYED.clear(), CLOSED.clear()
    BYTES[0], own = 0, kept.Kept(Traces(lasting=True))
    for module in (kept, recorded, placed_networks):
        monkeypatch.setattr(module, "KEPT", own)
    monkeypatch.setattr(recorded, "wanted", lambda device: True)
    monkeypatch.setattr(recorded, "Recordings", Traces)
    return own


@pytest.fixture
def prior():
    """A small one with random weights."""
    network = PixelNetwork((8, 8), 1, 8).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return PixelPrior(network, PriorSpec(multiple_of=4))


def restored(prior, **given):
    m = given.pop("measurement", None) or measured()[1]
    prior = MultiResolutionPrior(prior, (2, 1), (0.5,))
    update = call("UndegradeCGMeasurementUpdate", iterations=3)[0]
    given = {"prior": prior, "measurement": m, "update": update, "steps": 6, **given}
    return call("UndegradePosteriorSampler", **given)[0]


TASKS = {
    "downscale": ("UndegradeDownscale", {"factor": 2}),
    "motion blur": ("UndegradeMotionBlur", {"length": 5.0}),
    "clipped": ("UndegradeMotionBlur", {"length": 5.0}),
}


def three(name):
    """The measurement of three pictures."""
    node, given = TASKS[name]
    image = photo(height=32, width=48)
    image = torch.cat([image, 1 - image, image.flip(1)])
    operator = call(node, **given)[0]
    if name == "clipped":
        bright = (image.movedim(-1, 1)[:1] > 0.6).float()
        seen = torch.ones_like(bright[:, :1])
        operator = Compose((operator, AtLeast(seen, clipped=bright)))
    return call("UndegradeDegradeImage", image=image, operator=operator)[1]


@pytest.mark.parametrize("task", TASKS)
def test_a_run_that_is_played_back_gives_the_same_bits_twice(task, prior, traced, monkeypatch):
    m = three(task)
    found = [restored(prior, measurement=m) for _ in range(2)]
    monkeypatch.setattr(recorded, "wanted", lambda device: False)
    expected = restored(prior, measurement=m)
    assert all(torch.equal(image, expected) for image in found)
    assert PLAYED["PixelPrior", False] > PLAYED["PixelPrior", True] > 0
    assert PLAYED["WatchedOperator", False] + PLAYED["Compose", False] > 0
    assert len(CLOSED) == 2 and not any(recordings.known for recordings in CLOSED)


@pytest.mark.parametrize("name", OPERATORS)
def test_a_recording_is_not_taken_for_another_operators(name):
    """What is recorded is known by its operator, and there are two of most kinds in one chain."""
    one, another = OPERATORS[name](), OPERATORS[name]()
    assert one == one and one != another and len({one, another}) == 2


def test_half_precision_and_another_size_in_one_process(prior, traced, monkeypatch):
    prior.network.bfloat16()
    sizes = [measured(height=48, width=64)[1], measured(height=32, width=32)[1]]
    found = [restored(prior, measurement=m) for m in sizes]
    monkeypatch.setattr(recorded, "wanted", lambda device: False)
    for image, m in zip(found, sizes, strict=True):
        assert torch.equal(image, restored(prior, measurement=m))


class Cancelled(Exception):  # noqa: N818
    """As ComfyUI's."""


def test_an_interrupt_amid_a_run_gives_the_recordings_back(prior, traced, monkeypatch):
    def interrupted():
        if PLAYED["PixelPrior", False] == 2:
            raise Cancelled

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(Cancelled):
        restored(prior)
    assert len(CLOSED) == 1 and not CLOSED[0].known


def hooked(network):
    network.out.register_forward_hook(lambda *_: None)


def patched(network):
    network.out.forward = network.out.forward


def parted(network):
    network.register_buffer("elsewhere", torch.zeros(1, device="meta"))


@pytest.mark.parametrize("change", [hooked, patched, parted])
def test_a_network_that_does_more_than_its_layers_is_launched(change, prior):
    assert plain(prior.network)
    assert isinstance(replayed(MultiResolutionPrior(prior), launched), ReplayedPrior)
    change(prior.network)
    assert not plain(prior.network)
    assert replayed(prior, launched) is prior


def test_a_network_that_somebody_watches_is_launched(prior):
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False):
        assert not plain(prior.network)
    hook = torch.nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert not plain(prior.network)
    hook.remove()
    assert plain(prior.network)


class Another(PixelPrior):
    """Somebody's own kind of prior."""


def test_other_kinds_of_prior_are_launched(prior):
    own = Another(prior.network, prior.spec)
    for given in (own, MultiResolutionPrior(own), TiledPrior(prior)):
        assert replayed(given, launched) is given


class Dynamic:
    """A patcher of ComfyUI's that fetches weights for every layer."""

    def is_dynamic(self):
        return True


def test_weights_that_comfyui_fetches_layer_by_layer_are_not_recorded(prior, traced):
    with recorded.played(prior, torch.device("cpu")) as (quick, _):
        assert isinstance(quick, ReplayedPrior)
    setattr(prior.network, placed_networks.PATCHER, Dynamic())
    with recorded.played(prior, torch.device("cpu")) as (quick, replay):
        assert quick is prior and isinstance(replay, Traces)


def test_only_a_cuda_card_records_and_nobody_who_turned_it_off(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.delenv(recorded.SWITCH, raising=False)
    allocators = iter(["native", "cudaMallocAsync"])
    monkeypatch.setattr(torch.cuda, "get_allocator_backend", lambda: next(allocators))
    assert not recorded.wanted(torch.device("cpu"))
    assert recorded.wanted(cuda) and not recorded.wanted(cuda)
    for said in ("0", "1"):
        monkeypatch.setenv(recorded.SWITCH, said)
        assert recorded.wanted(cuda) == (said == "1")
