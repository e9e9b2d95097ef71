"""The region entropy regressor: its maps, what it belongs to, and the shipped one."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from undegrade.models import pixel, pixel_predictor, region_regressor
from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior, PriorSpec
from undegrade.models.region_regressor import (
    BUILT_IN_REGRESSOR,
    RegionRegressor,
    RegressorNetwork,
    Trained,
    fingerprint,
    fingerprints,
    load_region_regressor,
)
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import UnsupportedWeightsError, read_tensors
from undegrade.pipelines.adadiffsr.trained_gain import GainMaps
from undegrade.pipelines.schedule import karras

LEVELS = tuple(karras(10, 0.5, 0.02).tolist())


def random_weights(network, seed=0):
    g = torch.Generator().manual_seed(seed)
    for p in network.parameters():
        p.data = 0.15 * torch.randn(p.shape, generator=g)
    return network.requires_grad_(False).eval()


def tiny_prior(seed=0, name="tiny") -> PixelPrior:
    network = random_weights(PixelNetwork((8, 16), 1, 16), seed)
    return PixelPrior(network, PriorSpec(multiple_of=4, name=name))


def tiny_regressor(prior=None, **known) -> RegionRegressor:
    prints = fingerprints(prior) if prior else ("print",)
    said = {"scale": (0.01, 0.02), "spans": (0.5, 0.25), "loss": 0.1, **known}
    trained = Trained("tiny", prints, LEVELS, metrics="some", **said)
    network = random_weights(RegressorNetwork(3, (8, 12, 16), 16))
    network.out.weight *= 0.02
    return RegionRegressor(network, trained)


def seen(draw, batch=3, size=(32, 40)) -> dict:
    names = ("x", "x0_hat", "previous", "z_lr")
    sigma = torch.linspace(0.1, 0.4, batch, dtype=torch.float64)
    pictures = {name: 0.5 * draw(batch, 3, *size) for name in names}
    return {**pictures, "sigma": sigma, "sigma_previous": 1.5 * sigma}


def rows(tensors: dict, b: int) -> dict:
    return {key: value[b : b + 1] for key, value in tensors.items()}


# The network


@pytest.mark.parametrize("size", [(37, 31), (8, 8), (1, 5), (64, 24)])
def test_any_size(draw, size):
    regressor, given = tiny_regressor(), seen(draw, 2, size)
    before = {key: value.clone() for key, value in given.items()}
    with torch.inference_mode():
        maps = regressor.predict(**given)
    assert maps.shape == (2, 2, -(-size[0] // 8), -(-size[1] // 8)) and maps.isfinite().all()
    assert maps.dtype == torch.float32 and isinstance(regressor, GainMaps)
    assert all(torch.equal(before[key], given[key]) for key in given)


def test_a_sample_alone_in_a_batch(draw):
    regressor, given = tiny_regressor(), seen(draw)
    together = regressor.predict(**given)
    for b in range(3):
        alone = regressor.predict(**rows(given, b))
        assert torch.allclose(alone[0], together[b], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["x", "x0_hat", "previous", "z_lr", "sigma", "sigma_previous"])
def test_everything_seen_plays_a_part(draw, name):
    regressor, given = tiny_regressor(), seen(draw)
    other = {**given, name: 1.1 * given[name]}
    moved = (regressor.predict(**given) - regressor.predict(**other)).abs().flatten(1).max(1).values
    assert (moved > 1e-6).all()


def test_a_first_evaluation_is_told_from_one_without_change(draw):
    regressor, given = tiny_regressor(), seen(draw)
    still = {**given, "previous": given["x0_hat"]}
    first = {**still, "sigma_previous": given["sigma"]}
    assert regressor.predict(**first).isfinite().all()
    assert (regressor.predict(**still) - regressor.predict(**first)).abs().max() > 1e-6


def test_it_shifts_with_the_picture(draw):
    regressor, given = tiny_regressor(), seen(draw, 1, (160, 32))
    moved = {k: v[..., 16:, :] if v.ndim == 4 else v for k, v in given.items()}
    still, shifted = regressor.predict(**given), regressor.predict(**moved)
    assert torch.allclose(shifted[..., 6:14, :], still[..., 8:16, :], rtol=1e-3, atol=1e-6)


def test_change_is_counted_per_unit_of_log_noise(draw):
    """Twice the change over twice the way is the same, but for the level."""
    regressor, given = tiny_regressor(), seen(draw)
    change = given["x0_hat"] - given["previous"]
    twice = {
        **given,
        "previous": given["x0_hat"] - 2 * change,
        "sigma_previous": given["sigma_previous"] ** 2 / given["sigma"],
    }
    assert torch.allclose(
        regressor.predict(**given), regressor.predict(**twice), rtol=1e-4, atol=1e-6
    )


def test_outputs_are_gains_in_logarithms(draw):
    regressor, given = tiny_regressor(), seen(draw)
    y, g = regressor.outputs(**given), regressor.predict(**given)
    scale = torch.tensor([0.01, 0.02])[:, None, None]
    assert torch.allclose(g.sign() * (g.abs() / scale).log1p(), y, atol=1e-5)
    assert (y > 0).any() and (y < 0).any(), "both signs"


# Which prior it belongs to


def test_a_prior_is_known_by_its_weights_in_every_format():
    prior = tiny_prior()
    regressor = tiny_regressor(prior)
    regressor.check(prior)
    regressor.check(MultiResolutionPrior(prior, (2, 1), (0.5,)))
    for dtype in (torch.bfloat16, torch.float16):
        regressor.check(replace(prior, network=tiny_prior().network.to(dtype)))
    with pytest.raises(ValueError, match=r"trained with tiny, and the prior is b with other"):
        regressor.check(tiny_prior(1, "b"))
    with pytest.raises(ValueError, match="connect that prior, or leave regressor empty"):
        regressor.check(GaussianPrior())


def test_a_changed_weight_is_another_prior():
    one, other = tiny_prior(), tiny_prior()
    assert fingerprint(one) == fingerprint(other) and len(fingerprint(one)) == 64
    changed = tiny_prior()
    changed.network.out.bias.data[0] += 0.5
    assert fingerprint(changed) != fingerprint(one)


# Files


def metadata(trained: Trained) -> dict:
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in asdict(trained).items()}


def test_a_file_gives_back_the_regressor(tmp_path, draw):
    from safetensors.torch import save_file

    regressor, given = tiny_regressor(), seen(draw)
    file = tmp_path / "r.safetensors"
    save_file(regressor.network.state_dict(), str(file), metadata(regressor.trained))
    loaded = load_region_regressor(file)
    assert loaded.trained == regressor.trained and loaded.name == "r.safetensors"
    assert loaded.channels == 3 and not any(p.requires_grad for p in loaded.network.parameters())
    assert torch.allclose(loaded.predict(**given), regressor.predict(**given), rtol=1e-4, atol=1e-7)


def test_other_files_are_refused():
    tensors, said = tiny_regressor().network.state_dict(), metadata(tiny_regressor().trained)
    assert region_regressor.detect(tensors)
    assert not pixel.detect(tensors) and not pixel_predictor.detect(tensors)
    with pytest.raises(UnsupportedWeightsError, match="is no region regressor; choose one that"):
        load_region_regressor(BUILT_IN)
    for key in said:
        less = {k: v for k, v in said.items() if k != key}
        with pytest.raises(UnsupportedWeightsError, match="does not say which prior and base grid"):
            region_regressor.load(tensors, less, "x")
    with pytest.raises(UnsupportedWeightsError, match=r"missing \(mid\.b\.weight\)"):
        fewer = {k: v for k, v in tensors.items() if k != "mid.b.weight"}
        region_regressor.load(fewer, said, "x")


# The shipped file


@pytest.fixture(scope="module")
def shipped():
    return load_region_regressor(BUILT_IN_REGRESSOR)


def test_the_shipped_file_belongs_to_the_built_in_prior(shipped):
    shipped.check(load_pixel_prior(BUILT_IN))
    shipped.check(load_pixel_prior(BUILT_IN, torch.bfloat16))
    assert shipped.trained.prior == BUILT_IN.name and len(shipped.trained.sigmas) == 20
    assert sum(p.numel() for p in shipped.network.parameters()) < 1_100_000


def test_its_metadata_says_how_it_was_made():
    _, said = read_tensors(BUILT_IN_REGRESSOR)
    assert said["license"] == "MIT" and said["command"].startswith("python training regions")
    assert "no photographs" in said["data"]
    (figures,) = json.loads(said["scores"]).values()
    for found in figures.values():
        assert found["rank_full"] > found["rank_full_weight_free"], "on photographs"
    assert not any(mark in text for text in said.values() for mark in ("/tmp", "/home", "/root"))
