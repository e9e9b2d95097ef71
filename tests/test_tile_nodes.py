"""Tiled Prior, Tile Splitter, Tile Stitcher and Decode With Prior as ComfyUI calls them."""

from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from node_calls import call, measured, photo, sampled
from torch import Tensor

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.models.registry import innermost
from undegrade.nodes.comfyui import host
from undegrade.pipelines.tiling import TileGrid

SPEC = PriorSpec(multiple_of=4, native_size=16)


class StopError(Exception):
    """Stands for ComfyUI's InterruptProcessingException, a plain Exception."""


class Counting(GaussianPrior):
    """A pixel prior that counts its network calls."""

    calls = 0

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        type(self).calls += 1
        return super().denoise(x, sigma, factor)


@dataclass(frozen=True)
class Shuffle:
    """A lossless codec: one latent pixel is 2x2 pixels, and ComfyUI's latents are 4 z + 1."""

    factor: int = 2

    def encode(self, image: Tensor) -> Tensor:
        return F.pixel_unshuffle(image, 2)

    def decode(self, z: Tensor) -> Tensor:
        return F.pixel_shuffle(z, 2)

    def process_latent_in(self, samples: Tensor) -> Tensor:
        return (samples - 1) / 4

    def process_latent_out(self, z: Tensor) -> Tensor:
        return 4 * z + 1


def pixel_prior() -> GaussianPrior:
    return GaussianPrior(spec=SPEC)


def latent_prior() -> GaussianPrior:
    spec = PriorSpec(channels=12, multiple_of=4, native_size=16, name="shuffled")
    return GaussianPrior(spec=spec, codec=Shuffle())


def split(prior=None, **given):
    return call("UndegradeTileSplitter", **{"prior": prior or pixel_prior(), "overlap": 4, **given})


PRIORS = {"pixel": pixel_prior, "latent": latent_prior}


@pytest.mark.parametrize("kind", PRIORS)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(37, 31), (5, 7)])
def test_pictures_leave_as_they_came(kind, channels, size):
    prior, image = PRIORS[kind](), photo(*size, channels=channels, batch=3)
    image = (image * torch.tensor([1.0, 0.5, 0.25])[:, None, None, None]).contiguous()
    kept = image.clone()
    tiles, grid = split(prior, image=image)
    side = 16 // prior.codec.factor
    assert tiles["samples"].shape[1:] == (prior.spec.channels, side, side)
    assert len(tiles["samples"]) == 3 * grid.grid.count and grid.batch == 3
    (latent,) = call("UndegradeTileStitcher", tiles=tiles, grid=grid)
    (back,) = call("UndegradeDecodeWithPrior", latent=latent, prior=prior)
    assert back.shape == image.shape and (back - image).abs().max() < 1e-6
    assert torch.equal(image, kept)


def test_latents_are_in_the_ranges_that_comfyui_keeps_them_in():
    white = torch.ones(1, 16, 16, 3)
    tiles, _ = split(pixel_prior(), image=white)
    assert torch.equal(tiles["samples"], torch.ones(1, 3, 16, 16))
    tiles, _ = split(latent_prior(), image=white)
    assert torch.equal(tiles["samples"], torch.full((1, 12, 8, 8), 5.0))
    given = {"samples": torch.full((1, 12, 8, 8), 3.0)}
    (image,) = call("UndegradeDecodeWithPrior", latent=given, prior=latent_prior())
    assert torch.equal(image, torch.full((1, 16, 16, 3), 0.75))


def test_latents_are_split_like_pictures(draw):
    samples = draw(3, 12, 19, 9)
    tiles, grid = split(latent_prior(), latent={"samples": samples})
    assert torch.equal(tiles["samples"], TileGrid(19, 9, 8, 2).cut(samples))
    (latent,) = call("UndegradeTileStitcher", tiles=tiles, grid=grid)
    assert latent.keys() == {"samples"} and torch.equal(latent["samples"], samples)


def test_several_answers_per_picture_share_its_alpha():
    tiles, grid = split(image=photo(37, 31, channels=4, batch=2))
    count = grid.grid.count
    both = tiles["samples"].reshape(2, 1, count, 3, 16, 16).expand(-1, 2, -1, -1, -1, -1)
    answers = {"samples": both.reshape(-1, 3, 16, 16)}
    (latent,) = call("UndegradeTileStitcher", tiles=answers, grid=grid)
    (image,) = call("UndegradeDecodeWithPrior", latent=latent, prior=pixel_prior())
    assert image.shape == (4, 37, 31, 4)
    assert torch.allclose(image[3], photo(37, 31, channels=4)[0], atol=1e-6)


# Tiled Prior


def wrapped(prior, **given):
    return call("UndegradeTiledPrior", **{"prior": prior, "overlap": 4, **given})[0]


def test_a_tiled_prior_restores_the_same_picture():
    prior, (_, m) = pixel_prior(), measured(batch=3)
    plain, _ = sampled(m, prior=prior)
    tiled, _ = sampled(m, prior=wrapped(prior))
    assert plain.shape == (3, 32, 48, 3) and (plain - tiled).abs().max() < 1e-4
    assert innermost(wrapped(prior)) is prior


def test_the_latent_of_a_sampler_takes_tiles_of_its_own_size(draw):
    tiled = wrapped(latent_prior(), tile=32)
    assert tiled.sides == (16, 2)
    with torch.inference_mode():
        x, sigma = draw(2, 12, 37, 19), torch.ones(2)
        assert torch.allclose(tiled.denoise(x, sigma), latent_prior().denoise(x, sigma), atol=1e-6)


def test_cancel_stops_within_one_tile(monkeypatch):
    Counting.calls = 0
    _, m = measured()  # 48x32: 3 x 4 tiles

    def interrupted():
        if Counting.calls == 5:
            raise StopError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(StopError):
        sampled(m, prior=wrapped(Counting(spec=SPEC), tiles_per_call=1))
    assert Counting.calls == 5


def test_progress_counts_what_the_sampler_asks():
    seen, (_, m) = [], measured()
    previous = host.set_progress_sink(lambda *report: seen.append(report[1:3]))
    Counting.calls = 0
    try:
        sampled(m, prior=wrapped(Counting(spec=SPEC), tiles_per_call=1), steps=3)
    finally:
        host.set_progress_sink(previous)
    assert seen == [(1, 3), (2, 3), (3, 3)] and Counting.calls == 3 * 12


# Bad input


@pytest.mark.parametrize(
    ("node_id", "given", "error", "said"),
    [
        ("UndegradeTiledPrior", {"prior": 3}, TypeError, "prior is of type int; connect"),
        ("UndegradeTileSplitter", {"prior": 3}, TypeError, "prior is of type int; connect"),
        (
            "UndegradeTileSplitter",
            {"prior": pixel_prior(), "overlap": 16, "image": photo()},
            ValueError,
            "overlap is 16 pixels and the tile 16",
        ),
        (
            "UndegradeTiledPrior",
            {"prior": latent_prior(), "tile": 12},
            ValueError,
            "tile is 12 pixels; the prior shuffled needs a multiple of 8",
        ),
        ("UndegradeTileStitcher", {"tiles": 1, "grid": 1}, TypeError, "grid is of type int"),
        (
            "UndegradeDecodeWithPrior",
            {"latent": photo(), "prior": pixel_prior()},
            TypeError,
            "latent is a Tensor; connect a LATENT",
        ),
        (
            "UndegradeDecodeWithPrior",
            {"latent": {"samples": torch.zeros(1, 4, 8, 8)}, "prior": pixel_prior()},
            ValueError,
            r"latent has shape \(1, 4, 8, 8\); the prior prior needs \(batch, 3",
        ),
        (
            "UndegradeDecodeWithPrior",
            {"latent": {"samples": torch.full((1, 3, 8, 8), torch.nan)}, "prior": pixel_prior()},
            ValueError,
            "NaN or infinite",
        ),
    ],
)
def test_wrong_connections(node_id, given, error, said):
    with pytest.raises(error, match=said):
        call(node_id, **given)


def test_either_an_image_or_a_latent():
    latent = {"samples": torch.zeros(1, 3, 8, 8)}
    with pytest.raises(ValueError, match="neither of image and latent came"):
        split()
    with pytest.raises(ValueError, match="both of image and latent came"):
        split(image=photo(), latent=latent)
    with pytest.raises(ValueError, match="latent has a noise mask"):
        split(latent={**latent, "noise_mask": torch.ones(1, 8, 8)})


def test_tiles_that_are_not_the_grids():
    tiles, grid = split(image=photo(37, 31, batch=2))
    fewer = {"samples": tiles["samples"][:9]}
    said = r"tiles is 9; the grid's is 18 \(pictures: 2, tiles of each: 9\)"
    with pytest.raises(ValueError, match=said):
        call("UndegradeTileStitcher", tiles=fewer, grid=grid)
    smaller = {"samples": tiles["samples"][..., :8, :8]}
    with pytest.raises(ValueError, match="this grid is for 9 tiles of 16x16"):
        call("UndegradeTileStitcher", tiles=smaller, grid=grid)
    with pytest.raises(TypeError, match="tiles is a int; connect a LATENT"):
        call("UndegradeTileStitcher", tiles=1, grid=grid)
