"""Tiled Prior: the mean of its tiles' predictions, whatever the calls they came in."""

from dataclasses import dataclass, field

import pytest
import torch

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior, PriorSpec
from undegrade.models.registry import innermost
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines import tiled_prior
from undegrade.pipelines.measurement import simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.canvas import pad_reflect
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.tiled_prior import TiledPrior, TileOptions
from undegrade.pipelines.tiling import TileGrid
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient

OutOfMemory = torch.cuda.OutOfMemoryError
Accelerator = getattr(torch, "AcceleratorError", RuntimeError)
SIGMAS = torch.tensor([0.1, 1.0, 3.0])


@dataclass(frozen=True, eq=False)
class Recording:
    """A pointwise prior that remembers its calls, and runs out of memory above `room` tiles."""

    room: int = 1000
    error: type[Exception] = OutOfMemory
    words: str = "no room"
    spec: PriorSpec = field(default_factory=lambda: PriorSpec(multiple_of=4, native_size=16))
    calls: list = field(default_factory=list)
    codec = GaussianPrior().codec

    def denoise(self, x, sigma, factor=1):
        self.calls.append((tuple(x.shape), factor))
        if len(x) > self.room:
            raise self.error(self.words)
        return GaussianPrior(std=0.5).denoise(x, sigma)


def convolutional(seed: int = 0) -> PixelPrior:
    """A small network with seeded weights: its predictions depend on their surroundings."""
    network = PixelNetwork(widths=(8, 8), blocks=1, embedding=8)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.1 * values).requires_grad_(False)
    return PixelPrior(network.eval(), PriorSpec(multiple_of=4, native_size=16))


def tiled(prior, tile=16, overlap=4, calls=0) -> TiledPrior:
    return TiledPrior(prior, TileOptions(tile, overlap), calls)


@pytest.mark.parametrize("size", [(37, 31), (16, 16), (5, 31), (3, 2), (64, 17)])
@pytest.mark.parametrize("calls", [0, 1, 4, 100])
def test_a_pointwise_prior_does_not_see_the_tiles(size, calls, draw):
    x, inner = draw(3, 3, *size), GaussianPrior(std=0.5)
    with torch.inference_mode(), left():
        x0_hat = tiled(inner, calls=calls).denoise(x, SIGMAS)
    assert x0_hat.shape == x.shape
    assert (x0_hat - inner.denoise(x, SIGMAS)).abs().max() < 1e-6


def test_it_is_the_weighted_mean_of_the_tiles(draw):
    x, inner, grid = draw(3, 3, 37, 31), convolutional(), TileGrid(37, 31, 16, 4)
    kept = x.clone()
    tiles = [grid.cut(x[b : b + 1]) for b in range(3)]
    parts = [inner.denoise(t, SIGMAS[b].expand(len(t))) for b, t in enumerate(tiles)]
    x0_hat = tiled(inner).denoise(x, SIGMAS)
    assert torch.allclose(x0_hat, grid.stitch(torch.cat(parts)), atol=1e-5)
    assert torch.equal(x, kept)
    whole = inner.denoise(pad_reflect(x, 40, 32), SIGMAS)[..., :37, :31]
    assert (x0_hat - whole).abs().max() > 1e-2, "this network must see its surroundings"


@pytest.mark.parametrize("calls", [1, 2, 5, 27])
def test_the_picture_does_not_depend_on_the_calls(calls, draw):
    x, inner = draw(3, 3, 37, 31), convolutional()
    reference = tiled(inner, calls=9).denoise(x, SIGMAS)
    assert torch.allclose(tiled(inner, calls=calls).denoise(x, SIGMAS), reference, atol=1e-5)
    recording = Recording()
    tiled(recording, calls=calls).denoise(x, SIGMAS)
    sizes = [shape[0] for shape, _ in recording.calls]
    assert sum(sizes) == 27 and max(sizes) == calls and min(sizes[:-1], default=27) == calls


def test_a_sample_of_a_batch_equals_the_same_alone(draw):
    x, prior = draw(3, 3, 37, 31), tiled(convolutional(), calls=1)
    batch = prior.denoise(x, SIGMAS)
    for b in range(3):
        assert torch.equal(prior.denoise(x[b : b + 1], SIGMAS[b : b + 1])[0], batch[b])


def test_a_state_no_larger_than_a_tile_goes_through_whole(draw):
    inner = convolutional()
    x = draw(3, 3, 12, 16)
    assert torch.allclose(tiled(inner).denoise(x, SIGMAS), inner.denoise(x, SIGMAS), atol=1e-5)
    odd = draw(3, 3, 11, 13)
    padded = inner.denoise(pad_reflect(odd, 12, 16), SIGMAS)[..., :11, :13]
    assert torch.allclose(tiled(inner).denoise(odd, SIGMAS), padded, atol=1e-5)


def test_tiles_keep_their_size_at_every_level(draw):
    recording = Recording()
    prior = tiled(recording, calls=100)
    for factor, size in ((4, (9, 8)), (2, (19, 16)), (1, (37, 31))):
        prior.denoise(draw(1, 3, *size), torch.ones(1), factor)
    assert recording.calls == [((1, 3, 12, 8), 4), ((2, 3, 16, 16), 2), ((9, 3, 16, 16), 1)]


def test_specification_passes_through_and_any_size_is_taken():
    inner = convolutional()
    prior = tiled(MultiResolutionPrior(inner))
    assert (prior.spec.multiple_of, prior.spec.factors) == (1, (4, 2, 1))
    assert prior.codec is inner.codec and innermost(prior) is inner
    native = TiledPrior(inner, TileOptions(0, 4))
    assert native.sides == (16, 4)


@dataclass(frozen=True)
class Eighth:
    """The codec of a latent prior."""

    factor: int = 8


def test_sides_are_of_the_picture_also_for_a_latent_prior(draw):
    spec = PriorSpec(channels=4, multiple_of=8, native_size=512)
    inner = GaussianPrior(spec=spec, codec=Eighth())
    prior = TiledPrior(inner, TileOptions(0, 128))
    assert prior.sides == (64, 16)
    x = draw(1, 4, 70, 65)
    assert torch.allclose(prior.denoise(x, SIGMAS[:1]), inner.denoise(x, SIGMAS[:1]), atol=1e-6)
    with pytest.raises(ValueError, match="tile is 96 pixels; the prior prior needs a multiple of"):
        TiledPrior(inner, TileOptions(96, 32))
    with pytest.raises(ValueError, match="overlap is 12 pixels; the prior prior needs a multiple"):
        TiledPrior(inner, TileOptions(128, 12))
    with pytest.raises(ValueError, match="overlap is 128 pixels and the tile 128"):
        TiledPrior(inner, TileOptions(128, 128))
    with pytest.raises(ValueError, match="-1 tiles per call"):
        TiledPrior(inner, TileOptions(128, 0), -1)


def test_out_of_memory_halves_the_calls_and_that_is_remembered(draw):
    x, recording = draw(3, 3, 37, 31), Recording(room=3)
    prior = tiled(recording, calls=16)
    x0_hat = prior.denoise(x, SIGMAS)
    sizes = [shape[0] for shape, _ in recording.calls]
    assert sizes == [16, 8, 4] + 13 * [2] + [1]
    assert torch.allclose(x0_hat, GaussianPrior(std=0.5).denoise(x, SIGMAS), atol=1e-6)
    recording.calls.clear()
    prior.denoise(x, SIGMAS)
    assert recording.calls[0][0][0] == 2


def test_an_accelerators_word_for_it_counts_too(draw):
    recording = Recording(3, Accelerator, "CUDA error: out of memory")
    tiled(recording, calls=16).denoise(draw(3, 3, 37, 31), SIGMAS)
    assert [shape[0] for shape, _ in recording.calls][:3] == [16, 8, 4]


@pytest.mark.parametrize("error", [RuntimeError, Accelerator, MemoryError, KeyError])
def test_other_errors_are_passed_on_at_once(error, draw):
    recording = Recording(room=3, error=error)
    with pytest.raises(error):
        tiled(recording, calls=16).denoise(draw(3, 3, 37, 31), SIGMAS)
    assert len(recording.calls) == 1


def test_one_tile_that_does_not_fit_is_an_error(draw):
    recording = Recording(room=0)
    with pytest.raises(OutOfMemory):
        tiled(recording, calls=4).denoise(draw(1, 3, 37, 31), SIGMAS[:1])
    assert [shape[0] for shape, _ in recording.calls] == [4, 2, 1]


def test_automatic_calls_fill_the_free_memory_of_the_gpu(monkeypatch):
    prior, gpu = tiled(Recording()), torch.device("cuda")
    monkeypatch.setattr(tiled_prior, "free_memory", lambda device: 1000)
    assert prior.most(gpu) == 1, "the first calls are measured"
    prior.budget.bytes_per_tile = 100.0
    assert prior.most(gpu) == 7
    prior.budget.limit = 5
    assert prior.most(gpu) == 5
    prior.budget.bytes_per_tile = 5000.0
    assert prior.most(gpu) == 1
    assert tiled(Recording()).most(torch.device("cpu")) == 1
    assert tiled(Recording(), calls=9).most(gpu) == 9


def test_derivative_through_tiles(draw):
    """<J v, u> = <v, J^T u>, and J v is the difference quotient."""
    x, v, u = draw(2, 3, 37, 31), draw(2, 3, 37, 31), draw(2, 3, 37, 31)
    with torch.inference_mode(), left():
        prior = tiled(convolutional(), calls=4)

        def f(state):
            return prior.denoise(state, SIGMAS[:2])

        x0_hat, pull = torch.func.vjp(f, x)
        pushed = torch.func.jvp(f, (x,), (v,))[1]
        assert torch.allclose(x0_hat, f(x), atol=1e-6)
        ahead, back = (pushed * u).sum(), (v * pull(u)[0]).sum()
        assert torch.isclose(ahead, back, rtol=1e-4) and ahead.abs() > 1
        h = 1e-2
        numeric = (f(x + h * v) - f(x - h * v)) / (2 * h)
        assert (numeric - pushed).norm() < 0.02 * pushed.norm()


@pytest.mark.parametrize("update", [ConjugateGradient(), LikelihoodGradient()], ids=["cg", "dps"])
def test_a_sampler_restores_the_same_with_a_pointwise_prior(update, draw):
    """In either order of the wrappers, at three resolutions."""
    inner = GaussianPrior(std=0.5, spec=PriorSpec(multiple_of=4, native_size=16))
    wrapped = MultiResolutionPrior(inner)
    pictures = []
    for prior in (wrapped, tiled(wrapped), MultiResolutionPrior(tiled(inner))):
        pictures.append(restored(prior, update, 48, 32))
    assert (pictures[0] - pictures[1]).abs().max() < 1e-4
    assert torch.equal(pictures[1], pictures[2])


def test_a_sampler_needs_no_canvas_beyond_the_picture():
    inner = GaussianPrior(spec=PriorSpec(multiple_of=16, native_size=16))
    assert restored(inner, ConjugateGradient(), 36, 28).shape == (2, 3, 48, 32)
    assert restored(tiled(inner), ConjugateGradient(), 36, 28).shape == (2, 3, 36, 28)


def restored(prior, update, height: int, width: int) -> torch.Tensor:
    """The last canvas of a short run under inference_mode, as ComfyUI runs it."""
    truth = per_sample_noise([1, 2])(torch.empty(2, 3, height, width)).clamp(-1, 1)
    measurement = simulate(truth, Downscale(4), 0.05, per_sample_noise([3, 4]))
    with torch.inference_mode(), left():
        schedule = schedule_for(prior, SamplerOptions(steps=6, sigma_max=2.0))
        *_, last = restore(prior, measurement, schedule, update, per_sample_noise([5, 6]))
    return last.x0_hat
