"""Nodes whose work is played back: the bits of what is launched, and the card as it was before."""

import gc
from pathlib import Path

import pytest
import torch
from node_calls import call, measured, photo
from test_recorded import Cancelled

from undegrade.models.prior import MultiResolutionPrior
from undegrade.nodes.comfyui import host, recorded
from undegrade.nodes.comfyui.kept import KEPT
from undegrade.nodes.comfyui.wall import repeatable
from undegrade.pipelines import replay
from undegrade.pipelines.replay import Recording, Recordings, State, recording
from undegrade.pipelines.sums import dot

pytestmark = pytest.mark.cuda


@pytest.fixture
def records(cuda, use, monkeypatch):
    """Whether nodes record from now on: records(False) for what is launched. Notes all recordings
    as they were when a run gave them back."""
    use(cuda)
    kept = []

    class Noted(Recordings):
        def close(self):
            states = [*self.known.values(), *KEPT.recordings.known.values()]
            kept.append([type(s) if isinstance(s, Recording) else s for s in states])
            super().close()

    monkeypatch.setattr(recorded, "Recordings", Noted)
    monkeypatch.setattr(replay, "SPARED", 0.0)  # others may be on the card

    def choose(allowed):
        monkeypatch.setenv(recorded.SWITCH, "1" if allowed else "0")
        return kept

    KEPT.throw_away()
    choose(True)
    yield choose
    KEPT.throw_away()


def restored(precision="float32", m=None, prior=None, **given):
    prior = prior or call("UndegradeLoadPixelPrior", precision=precision)[0]
    m = m or measured(height=128, width=96)[1]
    prior = MultiResolutionPrior(prior)
    return call("UndegradePosteriorSampler", prior=prior, measurement=m, steps=15, **given)[0]


def three(name, **given):
    image = photo(96, 128)
    image = torch.cat([image, 1 - image, image.flip(1)])
    operator = call(name, **given)[0]
    return call("UndegradeDegradeImage", image=image, operator=operator)[1]


def switched(name="fixed threshold"):
    return call("UndegradeDeterministicSwitch", rule=name)[0]


RUNS = {
    "one picture": restored,
    "float16": lambda: restored("float16"),
    "bfloat16": lambda: restored("bfloat16"),
    "auto": lambda: restored("auto"),
    "three, reduced": lambda: restored(m=three("UndegradeDownscale")),
    "three, motion": lambda: restored(m=three("UndegradeMotionBlur")),
    "three, Gaussian": lambda: restored(m=three("UndegradeGaussianBlur")),
    "two samples": lambda: restored(samples=2),
    "the papers'": lambda: restored(complementary=False, renoise=1.0, switch=switched()),
    "noise floor": lambda: restored(switch=switched("noise floor")),
    "draws": lambda: restored(draws=True, samples=2),
    "DPS": lambda: restored(update=call("UndegradeGradientMeasurementUpdate")[0]),
    "JPEG": lambda: restored(m=three("UndegradeJPEG")),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_gives_the_bits_of_what_is_launched(name, records):
    records(False)
    expected = RUNS[name]()
    kept = records(True)
    assert not kept
    for _ in range(2):
        assert torch.equal(RUNS[name](), expected)
    if name != "DPS":  # nothing is recorded under a derivative
        assert all(Recording in states and State.REFUSED not in states for states in kept), kept


def test_one_prior_serves_runs_of_several_sizes(records):
    prior = call("UndegradeLoadPixelPrior")[0]
    ms = [measured(height=64, width=64)[1], measured(height=96, width=160)[1]]
    found = [restored(prior=prior, m=m) for m in (*ms, *ms)]
    records(False)
    for image, m in zip(found, (*ms, *ms), strict=True):
        assert torch.equal(image, restored(prior=prior, m=m))


def left_on_the_card():
    KEPT.throw_away()
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    return torch.cuda.memory_allocated(), torch.cuda.memory_reserved()


def test_a_run_leaves_no_memory_behind(records):
    prior = call("UndegradeLoadPixelPrior")[0]
    for side in (128, 256):  # the networks' weights, and cuBLAS's memory for two streams
        restored(prior=prior, m=measured(height=side, width=side)[1])
    before = left_on_the_card()
    for side in (128, 256, 192):
        restored(prior=prior, m=measured(height=side, width=side)[1])
        assert left_on_the_card() <= before


def test_an_interrupt_amid_a_run_leaves_the_card_as_it_was(records, monkeypatch):
    prior, m = call("UndegradeLoadPixelPrior")[0], three("UndegradeMotionBlur")
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(host, "check_interrupted", lambda: asked.append(recording()))
        expected = restored(prior=prior, m=m)
    assert True in asked and len(asked) > 40
    before = left_on_the_card()

    for stop in (3, asked.index(True), len(asked) // 2, len(asked) - 3):
        left = iter(range(stop))

        def interrupted(left=left):
            if next(left, None) is None:
                raise Cancelled

        with monkeypatch.context() as patch:
            patch.setattr(host, "check_interrupted", interrupted)
            with pytest.raises(Cancelled):
                restored(prior=prior, m=m)
        assert left_on_the_card() <= before
        torch.randn(3, device="cuda")  # refused while a generator counts as a graph's
    assert torch.equal(restored(prior=prior, m=m), expected)


def test_a_hook_is_called_for_every_step(records):
    prior, calls = call("UndegradeLoadPixelPrior")[0], []
    hook = prior.network.register_forward_hook(lambda *_: calls.append(1))
    image = restored(prior=prior)
    hook.remove()
    assert len(calls) == 15
    assert torch.equal(restored(prior=prior), image)


def test_a_recording_that_fails_leaves_the_card_as_it_was(cuda):
    x = torch.ones(2, 1, 3, 3, device=cuda)

    def asks(x):
        return x + x.sum().item()

    for _ in range(3):  # torch takes what it wants for its first capture
        before, recordings = left_on_the_card(), Recordings()
        for _ in range(3):
            assert torch.equal(recordings("asks", asks, x), x + 18)
        assert list(recordings.known.values()) == [State.REFUSED]
        torch.randn(3, device=cuda)
        for _ in range(3):
            assert torch.equal(recordings("doubled", lambda x: 2 * x, x), 2 * x)
        assert isinstance([*recordings.known.values()][1], Recording)
        recordings.close()
        after = left_on_the_card()
    assert after <= before


@pytest.mark.parametrize("count", [3 * n for n in (9, 80, 25 * 17, 64 * 64, 256 * 192, 512 * 512)])
def test_a_sums_bits_do_not_depend_on_the_batch(count, cuda):
    generator = torch.Generator().manual_seed(1)
    u, v = (torch.randn(8, count, generator=generator).to(cuda) for _ in range(2))
    together = dot(u, v)
    for b in range(8):
        assert torch.equal(dot(u[b : b + 1].clone(), v[b : b + 1].clone())[0], together[b])
        assert torch.equal(dot(u[b : b + 3], v[b : b + 3])[0], together[b])


def test_regions_are_played_back(records):
    from every_node import small_inputs

    given = {**small_inputs("UndegradeRegionAdaptiveSampler"), "steps": 20}
    records(False)
    expected = call("UndegradeRegionAdaptiveSampler", **given)[0]["samples"]
    kept = records(True)
    assert torch.equal(call("UndegradeRegionAdaptiveSampler", **given)[0]["samples"], expected)
    assert Recording in kept[-1]


def test_a_network_of_diffusers_is_played_back(cuda, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    from gpu_networks import ffhq_size

    from undegrade.pipelines.replay import ReplayedPrior

    for dtype in (torch.float32, torch.float16):
        prior, recordings = ffhq_size(32, cuda, dtype), Recordings()
        played = ReplayedPrior(prior, recordings)
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad(), repeatable():
            for level in (4.0, 0.7, 0.3, 0.02):
                x = torch.randn(1, 3, 64, 64, generator=generator).to(cuda)
                sigma = torch.full((1,), level, device=cuda)
                assert torch.equal(prior.denoise(x, sigma), played.denoise(x, sigma))
        assert [type(state) for state in recordings.known.values()] == [Recording]
        recordings.close()
