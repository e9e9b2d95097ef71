"""Large results go through the network in tiles; those that memory does not hold are refused."""

import pytest
import skimage.data
import torch
from node_calls import call, photo
from start_noises import ClosedForm, pixel_prior

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes import memory
from undegrade.nodes.images import Layout, to_image
from undegrade.pipelines import large_states
from undegrade.pipelines.large_states import bytes_of_run, in_tiles
from undegrade.pipelines.tiled_prior import TiledPrior, TileOptions


@pytest.fixture(scope="module")
def built_in():
    return load_pixel_prior(BUILT_IN)


def test_only_large_states_of_known_networks_are_cut(built_in):
    tiled = in_tiles(built_in, 2048, 2049)
    assert isinstance(tiled, TiledPrior) and tiled.sides == (1024, 128)
    assert in_tiles(built_in, 2048, 2048) is built_in
    assert in_tiles(tiled, 9000, 9000) is tiled
    assert isinstance(in_tiles(pixel_prior(), 9000, 9000), type(pixel_prior()))


def square():
    """A photograph, (1, 3, 192, 320) in [-1, 1]."""
    pixels = torch.from_numpy(skimage.data.camera()[100:292, 100:420]) / 127.5 - 1
    return pixels.expand(1, 3, -1, -1).float()


def test_tiles_agree_with_one_call(built_in, draw):
    """A share of 128 pixels is what a network sees of: 32 are not enough."""
    x, sigma = square() + 0.57 * draw(1, 3, 192, 320), torch.tensor([0.57])
    whole = built_in.denoise(x, sigma)
    off = [(TiledPrior(built_in, TileOptions(192, overlap)).denoise(x, sigma) - whole).abs().max()
           * 127.5 for overlap in (large_states.TILES.overlap, 32)]
    assert off[0] < 0.5 < off[1]


def test_what_a_run_takes(built_in):
    whole = bytes_of_run(built_in, 1, 4096, 4096)
    tiled = bytes_of_run(in_tiles(built_in, 4096, 4096), 1, 4096, 4096)
    assert 8e9 < whole < 12e9 and 2e9 < tiled < 4e9
    assert bytes_of_run(built_in, 2, 512, 512) == 2 * bytes_of_run(built_in, 1, 512, 512)


@pytest.mark.parametrize("node", ["InversionSampler", "PosteriorSampler"])
def test_what_does_not_fit_is_refused_before_the_first_step(node, monkeypatch, built_in):
    monkeypatch.setattr(memory, "free", lambda: 10**6)
    calls = []
    monkeypatch.setattr(type(built_in), "denoise", lambda *_: calls.append(1))
    operator = call("UndegradeDownscale", factor=4)[0]
    given = {
        "InversionSampler": {"predictor": ClosedForm(), "image": photo(16, 20)},
        "PosteriorSampler": {"measurement": call(
            "UndegradeMeasurementFromImage", image=photo(16, 20), operator=operator)[0]},
    }[node]
    sentence = "A picture of 80x64 pixels would take about 0.0 GB of memory here, and 0.0 GB are"
    with pytest.raises(MemoryError, match=sentence):
        call(f"Undegrade{node}", prior=built_in, **given)
    assert not calls


def test_free_memory_is_known_here():
    assert memory.free() > 10**8


def test_a_large_result_is_made_of_tiles(monkeypatch, built_in, draw):
    """The same picture as of one call, but for the network's far sight."""
    image = to_image(square()[..., :48, :79], Layout())
    given = {"prior": built_in, "predictor": ClosedForm(), "image": image}
    whole = call("UndegradeInversionSampler", **given)[0]
    monkeypatch.setattr(large_states, "WHOLE", 200 * 200)
    monkeypatch.setattr(large_states, "TILES", TileOptions(192, 128))
    tiled = call("UndegradeInversionSampler", **given)[0]
    assert 0 < (tiled - whole).abs().max() * 255 < 0.5
