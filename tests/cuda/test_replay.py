"""Work that is played back gives the bits of work that is launched."""

import gc
from dataclasses import replace

import pytest
import torch
from every_operator import OPERATORS, pictures
from node_calls import call, measured

from undegrade.models.prior import MultiResolutionPrior
from undegrade.nodes.comfyui.wall import repeatable
from undegrade.pipelines import answers
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.replay import Recording, Recordings, ReplayedPrior, State, launched
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.update import Surroundings

LINEAR = [name for name, make in OPERATORS.items() if make().linear]
each = pytest.mark.parametrize("name", LINEAR)


def updates(name, device, **around):
    """Three updates at different levels, and of no measurement."""
    x, truth = (t.to(device) for t in pictures())
    operator, update = OPERATORS[name](), ConjugateGradient()
    y = operator(0.3 * truth)
    found = []
    for sigma, m in ((0.7, y), (0.4, y), (0.4, torch.zeros_like(y)), (0.05, y)):
        given = Surroundings(sigma, 0.3, per_sample_noise([1, 2]), **around)
        found.append(update(x, sigma, Measurement(m, operator, 0.05), given))
    return found


@each
def test_samples_that_ended_stay_where_they_are(name, monkeypatch):
    """A recording runs all steps: those after the end change no bit."""
    expected = updates(name, "cpu")
    monkeypatch.setattr(answers, "recording", lambda: True)
    for a, b in zip(expected, updates(name, "cpu"), strict=True):
        assert torch.equal(a, b)


def test_nothing_is_recorded_on_the_cpu():
    recordings = Recordings()
    expected = updates("gaussian replicate", "cpu")
    found = updates("gaussian replicate", "cpu", replay=recordings)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))
    assert not recordings.known


@pytest.mark.cuda
@each
def test_an_update_has_the_same_bits(name, cuda):
    recordings = Recordings()
    with repeatable():
        expected = updates(name, cuda)
        found = updates(name, cuda, replay=recordings)
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a, b)
    (state,) = recordings.known.values()
    assert isinstance(state, Recording), state


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_network_has_the_same_bits(dtype, cuda):
    prior = call("UndegradeLoadPixelPrior", precision=dtype)[0]
    torch.nn.Module.to(prior.network, cuda)
    recordings = Recordings()
    played = ReplayedPrior(prior, recordings)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad(), repeatable():
        for level in (4.0, 0.7, 0.3, 0.02):
            for side in (64, 96):
                x = torch.randn(2, 3, side, 64, generator=generator).to(cuda)
                sigma = torch.full((2,), level, device=cuda)
                assert torch.equal(prior.denoise(x, sigma), played.denoise(x, sigma))
    assert [type(state) for state in recordings.known.values()] == [Recording] * 2


def run(prior, m, replay):
    """The last prediction of 18 steps at three resolutions."""
    several, options = MultiResolutionPrior(ReplayedPrior(prior, replay)), SamplerOptions(steps=18)
    schedule, noise = schedule_for(several, options), per_sample_noise([0])
    for step in restore(several, m, schedule, ConjugateGradient(), noise, complementary=True,
                        replay=replay):  # fmt: skip
        found = step.x0_hat
    return found


@pytest.mark.cuda
def test_a_run_has_the_same_bits_and_leaves_nothing(cuda):
    prior = call("UndegradeLoadPixelPrior")[0]
    torch.nn.Module.to(prior.network, cuda)
    m = measured(height=96, width=128)[1]
    m = replace(m, y=m.y.to(cuda))
    with torch.no_grad(), repeatable():
        expected = run(prior, m, launched)
        run(prior, m, Recordings())  # cuBLAS keeps memory for the stream of recordings
        gc.collect()
        before = torch.cuda.memory_allocated()
        assert torch.equal(run(prior, m, Recordings()), expected)
        gc.collect()
        assert torch.cuda.memory_allocated() <= before


@pytest.mark.cuda
def test_what_asks_the_card_is_launched(cuda):
    recordings, asked = Recordings(), []

    def work(x):
        asked.append(x.sum().item())
        return x + 1

    for k in range(4):
        assert torch.equal(recordings("k", work, torch.full((2, 1, 3, 3), k, device=cuda)),
                           torch.full((2, 1, 3, 3), k + 1, device=cuda))  # fmt: skip
    assert list(recordings.known.values()) == [State.REFUSED]
    x = torch.ones(2, 1, 3, 3, device=cuda)
    for _ in range(3):
        assert torch.equal(recordings("other", lambda x: 2 * x, x), 2 * x)
    assert isinstance([*recordings.known.values()][1], Recording)
