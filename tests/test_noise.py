"""Noise belongs to a sample: not to its batch, its order or a global state."""

from pathlib import Path

import pretended_device
import pytest
import torch
from node_calls import call

from undegrade.models.sending import sent
from undegrade.nodes.posterior import sampler
from undegrade.pipelines import noise as module
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import damage_seed, per_sample_noise
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.subdaps.options import SamplerOptions

CPU = torch.device("cpu")
SHAPES = [(3, 37, 31), (3, 74, 62), (1, 1, 1), (3, 1, 7)]  # a run draws at several sizes


def drawn(seeds: list[int]) -> list[torch.Tensor]:
    noise = per_sample_noise(seeds)
    return [noise(torch.empty(len(seeds), *shape)) for shape in SHAPES]


def test_a_sample_is_the_same_alone_in_a_batch_and_in_another_order():
    together, turned = drawn([5, 11, 7]), drawn([7, 5, 11])
    for b, seed in enumerate([5, 11, 7]):
        for alone, batch, other in zip(drawn([seed]), together, turned, strict=True):
            assert torch.equal(alone[0], batch[b])
            assert torch.equal(alone[0], other[[7, 5, 11].index(seed)])


def test_seeds_and_draws_are_independent_and_normal():
    noise = per_sample_noise([0, 1, 2**64 - 1])
    first, second = (noise(torch.empty(3, 1, 100, 100)).flatten(1) for _ in range(2))
    both = torch.cat([first, second]).double()
    n = both.shape[1]
    assert both.mean(1).abs().max() < 5 / n**0.5
    correlation = both @ both.T / n
    assert (correlation - torch.eye(6)).abs().max() < 5 * (2 / n) ** 0.5


def test_the_noise_of_a_damage_is_not_that_of_a_sampler_with_the_same_seed():
    """Whether the damage is Degrade Image's or the real-world chain's."""
    first = per_sample_noise([0])(torch.empty(1, 3, 32, 32))
    m = call("UndegradeDegradeImage", image=torch.full((1, 32, 32, 3), 0.5),
             operator=call("UndegradeGaussianBlur")[0], noise_level=0.1, seed=0)[1]
    both = torch.stack([(m.y[0] / 0.1).flatten(), first.flatten()])
    assert abs(torch.corrcoef(both)[0, 1]) < 0.1 and m.y.std() > 0.08
    assert len({damage_seed(s) for s in range(100)}) == 100


def test_noise_of_a_device_belongs_to_a_sample_too():
    there = module.noise_of_device([5, 2**64 - 1], torch.device("cpu"))
    here = per_sample_noise([5, 2**64 - 1])
    for shape in SHAPES:
        like = torch.empty(2, *shape)
        assert torch.equal(there(like), here(like)), "on the CPU they are one"
    with pytest.raises(ValueError, match="samples and seeds are 3 and 2"):
        there(torch.empty(3, 1, 2, 2))


def test_a_run_draws_where_it_is_told(monkeypatch):
    asked = []

    def drawn_there(seeds, device):
        asked.append((seeds, device.type))
        return per_sample_noise([seed + 1 for seed in seeds])

    monkeypatch.setattr(sampler, "noise_of_device", drawn_there)
    for draws in (False, True):
        for on in (False, True):
            noise = sampler.noises_of(SamplerOptions(draws=draws, device_noise=on), CPU)([2, 3])
            expected = per_sample_noise([2, 3] if not draws else [1, 1])
            like = torch.empty(2, 1, 4, 4)
            signs = torch.tensor([1.0, -1.0 if draws else 1.0])[:, None, None, None]
            assert torch.equal(noise(like), expected(like) * signs) != on
    assert asked == [([2, 3], "cpu"), ([1, 1], "cpu")]


@pytest.mark.cuda
def test_noise_of_a_card_is_the_same_alone_and_in_a_batch():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    cuda = torch.device("cuda")
    together = module.noise_of_device([3, 4], cuda)(torch.empty(2, 3, 64, 64, device=cuda))
    alone = module.noise_of_device([4], cuda)(torch.empty(1, 3, 64, 64, device=cuda))
    assert together.is_cuda and torch.equal(together[1:], alone)
    assert together.mean().abs() < 0.05 and (together.std() - 1).abs() < 0.05


def test_no_global_state_is_read_or_changed():
    before = torch.get_rng_state()
    first = drawn([3])
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(5)  # moves the global generator
    assert all(torch.equal(a, b) for a, b in zip(first, drawn([3]), strict=True))


def test_noise_is_contiguous_whatever_the_layout_of_the_state():
    like = torch.empty(2, 3, 8, 6)
    turned = like.to(memory_format=torch.channels_last)
    a, b = per_sample_noise([1, 2])(like), per_sample_noise([1, 2])(turned)
    assert torch.equal(a, b) and a.dtype == torch.float32


def test_negative_and_huge_seeds_are_folded_into_the_interval():
    assert torch.equal(drawn([-1])[0], drawn([2**64 - 1])[0])


@pytest.mark.parametrize("inference", [False, True])
def test_what_is_drawn_ahead_for_a_card_changes_no_number(inference, monkeypatch):
    shapes = [SHAPES[k] for k in (0, 0, 1, 0, 2, 2, 2, 3)]
    noise = per_sample_noise([5, 11])
    expected = [noise(torch.empty(2, *shape)) for shape in shapes]
    monkeypatch.setattr(module, "SMALL", 5)
    with torch.inference_mode(inference), pretended_device.pretended():
        noise = per_sample_noise([5, 11])
        for shape, numbers in zip(shapes, expected, strict=True):
            found = noise(torch.empty(2, *shape, device=pretended_device.CARD))
            assert found.device == pretended_device.CARD and torch.equal(found.cpu(), numbers)


@pytest.mark.parametrize("count", [31, 32, 33, 50, 79])
def test_parts_drawn_by_several_threads_are_the_whole(count, monkeypatch):
    def drawn_twice(threads, inference=False):
        monkeypatch.setattr(module, "THREADS", threads)
        noise = per_sample_noise([5, 11])
        with torch.inference_mode(inference):  # which other threads are not in
            return [noise(torch.empty(2, 1, 1, count)) for _ in range(2)]

    monkeypatch.setattr(module, "PART", 16)
    for drawn_ in zip(drawn_twice(1), drawn_twice(3), drawn_twice(3, True), strict=True):
        assert torch.equal(drawn_[0], drawn_[1]) and torch.equal(drawn_[0], drawn_[2])


def test_wrong_number_of_seeds():
    with pytest.raises(ValueError, match=r"samples and seeds are 3 and 2; .* one seed per sample"):
        per_sample_noise([1, 2])(torch.empty(3, 1, 2, 2))


def test_simulated_measurement_has_the_asked_noise(draw):
    x0 = draw(2, 3, 96, 96)
    operator = Downscale(2)
    measurement = simulate(x0, operator, 0.2, per_sample_noise([1, 2]))
    noise = measurement.y - operator(x0)
    assert measurement.noise_level == 0.2 and measurement.image_size == (96, 96)
    assert noise.std().item() == pytest.approx(0.2, rel=5 / (2 * noise.numel()) ** 0.5)
    clean = simulate(x0, HDRClip(2.0), 1e-3, per_sample_noise([1, 2]))
    assert (clean.y - HDRClip(2.0)(x0)).abs().max() < 1e-2  # 0.001, not 0.001 times anything


Y = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("make", "error", "sentence"),
    [
        (lambda: Measurement(Y[0], HDRClip(), 0.1), ValueError, r"\(3, 4, 4\); give \(B, C"),
        (lambda: Measurement(Y[:0], HDRClip(), 0.1), ValueError, r"measurement got a tensor of"),
        (lambda: Measurement(Y / 0, HDRClip(), 0.1), ValueError, r"NaN or infinite values; repair"),
        (lambda: Measurement(Y, HDRClip(), 0.0), ValueError, r"noise level is 0\.0; give a number"),
        (lambda: Measurement(Y, HDRClip(), -0.1), ValueError, r"noise level is -0\.1; give"),
        (lambda: Measurement(Y, HDRClip(), float("nan")), ValueError, r"noise level is nan; give"),
        (lambda: Measurement(Y, torch.sin, 0.1), TypeError, r"connect a degradation operator"),
        (lambda: SamplerOptions(sigma_min=-1.0), ValueError, r"sigma_min is -1\.0; give a number"),
    ],
)
def test_refusals(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_nothing_is_sent_without_waiting_to_a_device_that_may_read_it_too_late():
    """On MPS torch reads freed memory then (pytorch/pytorch#189690)."""
    class Values:
        def to(self, where, non_blocking):
            return where.type, non_blocking

    kinds = [sent(Values(), torch.device(kind)) for kind in ("mps", "cuda", "cpu")]
    assert kinds == [("mps", False), ("cuda", True), ("cpu", True)]
    root = Path(module.__file__).parents[1]
    rooms = [root / name for name in ("models", "nodes", "pipelines")]
    files = [file for room in rooms for file in room.rglob("*.py")]
    found = {file.name for file in files if "non_blocking" in file.read_text()}
    assert found == {"answers.py", "sending.py"}, "the first of which asks CUDA"
