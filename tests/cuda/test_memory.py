"""What only a CUDA device tells: memory, number formats, TF32; and out of memory anywhere."""

import gc
from contextlib import nullcontext

import pytest
import torch
from every_node import output
from node_calls import call, measured, photo

from undegrade.models.prior import GaussianPrior
from undegrade.nodes.comfyui import wall
from undegrade.pipelines.tiled_prior import TiledPrior, TileOptions

pytestmark = pytest.mark.usefixtures("comfyui")


def sampled(prior, side=128):
    m = measured(height=side, width=side)[1]
    return call("UndegradePosteriorSampler", prior=prior, measurement=m, steps=12)[0]


def decibels(a, b):
    return -10 * torch.log10((a - b).square().mean()).item()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_restores_as_well(dtype, card, use):
    """Within 0.2 dB of float32, against the truth."""
    use(card)
    side = 128 if card.type == "cuda" else 32
    truth = photo(side, side)
    whole = sampled(call("UndegradeLoadPixelPrior")[0], side)
    half = sampled(call("UndegradeLoadPixelPrior", precision=dtype)[0], side)
    assert half.isfinite().all()
    assert abs(decibels(half, truth) - decibels(whole, truth)) < 0.2


class Small(GaussianPrior):
    """A prior whose card has memory for so many tiles at once."""

    most, seen = 3, ()

    def denoise(self, x, sigma, factor=1):
        type(self).seen += (len(x),)
        if len(x) > self.most:
            raise torch.cuda.OutOfMemoryError("a test's")
        return super().denoise(x, sigma, factor)


def test_out_of_memory_is_answered_by_halving(card, draw):
    x, Small.seen = draw(1, 3, 64, 64).to(card), ()
    sigma = torch.ones(1, device=card)
    tiled = TiledPrior(Small(), TileOptions(tile=32, overlap=16), tiles_per_call=8)
    whole = TiledPrior(GaussianPrior(), TileOptions(tile=32, overlap=16), tiles_per_call=8)
    assert torch.equal(tiled.denoise(x, sigma).cpu(), whole.denoise(x, sigma).cpu())
    assert Small.seen[:4] == (8, 4, 2, 2) and max(Small.seen[2:]) == 2


class Loading(GaussianPrior):
    """A network whose weights, of 900 bytes, come to the card with its first call; a tile is 7."""

    held, peak = 0, 0

    def denoise(self, x, sigma, factor=1):
        type(self).held, type(self).peak = 900, 900 + 7 * len(x)
        return x


class OnTheCard:
    """Tiles, as far as they are looked at."""

    device = torch.device("cuda")

    def __len__(self):
        return 1


def test_weights_that_come_with_the_first_call_are_not_taken_for_a_tiles(monkeypatch):
    network = Loading()
    prior = TiledPrior(network, TileOptions(tile=32, overlap=16))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: network.held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: network.peak)
    for expected in (None, 7, 7):
        prior.call(OnTheCard(), torch.ones(1), 1)
        assert prior.budget.bytes_per_tile == expected


@pytest.mark.cuda
def test_a_card_that_is_full_is_answered_by_halving(cuda, use):
    """Memory for a few tiles only: the picture is the one of single tiles."""
    use(cuda)
    prior = output("UndegradeLoadPixelPrior")
    x = torch.zeros(1, 3, 1024, 1024, device=cuda)
    sigma = torch.ones(1, device=cuda)
    prior.network.to(cuda)
    options = TileOptions(tile=256, overlap=64)
    with wall.repeatable():
        expected = TiledPrior(prior, options, 1).denoise(x, sigma)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(cuda).total_memory
    allowed = torch.cuda.memory_reserved() + 400 * 2**20
    torch.cuda.set_per_process_memory_fraction(allowed / total)
    try:
        tiled = TiledPrior(prior, options, tiles_per_call=25)
        with wall.repeatable():
            result = tiled.denoise(x, sigma)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tiled.budget.limit is not None and tiled.budget.limit < 25
    assert (expected - result).abs().max() < 1e-4


@pytest.mark.cuda
def test_nothing_is_left_on_the_card(cuda, use):
    use(cuda)
    sampled(call("UndegradeLoadPixelPrior")[0])  # libraries keep workspaces from their first call
    gc.collect()
    before = torch.cuda.memory_allocated()
    sampled(call("UndegradeLoadPixelPrior")[0])
    gc.collect()
    assert torch.cuda.memory_allocated() <= before


@pytest.mark.cuda
def test_the_peak_is_that_of_the_first_measurement(cuda, use):
    """504 MiB were measured for 1024x1024; half as much again is too much."""
    use(cuda)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    sampled(call("UndegradeLoadPixelPrior")[0], side=1024)
    assert torch.cuda.max_memory_allocated() < 760 * 2**20


@pytest.fixture
def tf32():
    """The user has chosen it."""
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32 = kept


@pytest.mark.cuda
@pytest.mark.parametrize("let_in, most", [(False, 0.05), (True, 0.1)])
def test_tf32_stays_out_of_a_run_and_would_cost_little(
    let_in, most, cuda, use, tf32, monkeypatch
):
    """In dB, against the truth."""
    use("cpu")
    expected = sampled(call("UndegradeLoadPixelPrior")[0])
    use(cuda)
    if let_in:
        monkeypatch.setattr(wall, "repeatable", nullcontext)
    result = sampled(call("UndegradeLoadPixelPrior")[0])
    truth = photo(128, 128)
    assert abs(decibels(result, truth) - decibels(expected, truth)) < most


@pytest.mark.cuda
def test_a_sample_alone_and_in_a_batch(cuda, use, tf32):
    use(cuda)
    prior = output("UndegradeLoadPixelPrior")
    prior.network.to(cuda)
    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).to(cuda)
    sigma = torch.full((4,), 0.3, device=cuda)
    with wall.repeatable():
        together, alone = prior.denoise(x, sigma), prior.denoise(x[2:3], sigma[2:3])
    assert (together[2:3] - alone).abs().max() < 2e-5
