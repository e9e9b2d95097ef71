"""The regressor at the nodes: loaded, asked by the sampler, counted, and refused where foreign."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from node_calls import call, photo
from safetensors.torch import save_file
from test_region_regressor import tiny_prior, tiny_regressor

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.models.registry import BUILT_IN
from undegrade.nodes.comfyui import host
from undegrade.nodes.regions.regressor import LoadRegionEntropyRegressor
from undegrade.pipelines.schedule import karras

PRIOR = tiny_prior()
LEVELS = tuple(karras(12, 0.4, 0.01).tolist())
REGRESSOR = tiny_regressor(PRIOR)
REGRESSOR = replace(REGRESSOR, trained=replace(REGRESSOR.trained, sigmas=LEVELS))


def sampled(image, prior=PRIOR, **given):
    tiles, grid = call("UndegradeTileSplitter", prior=prior, image=image, tile=32, overlap=16)
    known = {"regressor": REGRESSOR, "steps": 12, **given}
    return call("UndegradeRegionAdaptiveSampler", prior=prior, tiles=tiles, grid=grid, **known)


def test_the_sampler_asks_the_regressor_once_per_call():
    image = photo(37, 61, batch=2)
    before = image.clone()
    restored, work, text = sampled(image, tiles_per_call=3)
    assert restored["samples"].isfinite().all() and work.shape == (2, 37, 61)
    calls = int(text.split("network calls: ")[1].split(",")[0])
    total = int(text.split("(min / mean / max), ")[1].split(" ")[0])
    assert f"regressor: {calls} calls for {total} evaluations" in text
    assert "not calibrated" not in text and torch.equal(image, before)
    assert "regressor" not in sampled(image, regressor=None)[2]


def test_its_gains_steer_the_regions():
    """One that sees no gain anywhere lets every region skip; one that sees much lets none."""

    def mean(value):
        class Constant(type(REGRESSOR)):
            def predict(self, x, *_):
                return torch.full((len(x), 2, 4, 4), value)

        made = Constant(REGRESSOR.network, REGRESSOR.trained)
        return sampled(photo(48, 48), regressor=made)[1].mean().item()

    assert mean(0.0) < 0.7 < mean(10.0) == 1.0


def test_tiles_do_not_see_each_other():
    image = photo(48, 48)
    whole = sampled(image, tiles_per_call=16)[0]["samples"]
    alone = sampled(image, tiles_per_call=1)[0]["samples"]
    assert torch.allclose(whole, alone, atol=1e-4)


def test_memory_is_managed_by_the_host(monkeypatch):
    placed = []
    monkeypatch.setattr(host, "place", lambda networks, _: placed.append(networks))
    sampled(photo(32, 32))
    assert [PRIOR.network, REGRESSOR.network] in placed


def test_another_prior_and_other_levels_are_refused():
    with pytest.raises(ValueError, match="was trained with tiny, and the prior is other with"):
        sampled(photo(), tiny_prior(3, "other"))
    closed = GaussianPrior(spec=PriorSpec(name="gaussian", multiple_of=8))
    with pytest.raises(ValueError, match="and the prior is gaussian with other weights"):
        sampled(photo(), closed)
    with pytest.raises(ValueError, match=r"knows noise levels from 0\.4 to 0\.01 and the run goes"):
        sampled(photo(), start_sigma=0.7)
    with pytest.raises(TypeError, match="regressor is of type str; connect Load Region Entropy"):
        sampled(photo(), regressor="x")


def test_a_file_in_its_folder_is_offered_and_read(tmp_path, monkeypatch):
    said = {k: v if isinstance(v, str) else json.dumps(v)
            for k, v in asdict(REGRESSOR.trained).items()}
    save_file(REGRESSOR.network.state_dict(), str(tmp_path / "own.safetensors"), said)
    monkeypatch.setattr(host, "model_roots", lambda _: [tmp_path])
    node = LoadRegionEntropyRegressor
    assert node.INPUT_TYPES()["required"]["file"][0] == ["built-in", "own.safetensors"]
    assert node.VALIDATE_INPUTS("own.safetensors") is True
    assert "not in models/region_regressors" in str(node.VALIDATE_INPUTS("none.safetensors"))
    own = call("UndegradeLoadRegionEntropyRegressor", file="own.safetensors")[0]
    assert own.trained == REGRESSOR.trained
    text = sampled(photo(32, 32), regressor=own)[2]
    assert "regressor: " in text
    built_in = call("UndegradeLoadRegionEntropyRegressor", file="built-in")[0]
    assert built_in.trained.prior == BUILT_IN.name
