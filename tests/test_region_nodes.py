"""The nodes of region-adaptive sampling: splitter to decoder, progress, cancel, bad input."""

import progress_bars
import pytest
import torch
from node_calls import call, photo

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.nodes.comfyui import host
from undegrade.nodes.regions import calibration
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.schedule import karras

PRIOR = GaussianPrior(std=0.5, spec=PriorSpec(name="gaussian", sigma_max=20.0, multiple_of=8))


def split(image, tile=32, overlap=16, prior=PRIOR):
    return call("UndegradeTileSplitter", prior=prior, image=image, tile=tile, overlap=overlap)


def sampled(image, prior=PRIOR, tile=32, overlap=16, **given):
    tiles, grid = split(image, tile, overlap)
    given = {"steps": 10, "noise": 1.0, **given}
    restored, mask, text = call(
        "UndegradeRegionAdaptiveSampler", prior=prior, tiles=tiles, grid=grid, **given
    )
    whole = call("UndegradeTileStitcher", tiles=restored, grid=grid)[0]
    return call("UndegradeDecodeWithPrior", latent=whole, prior=prior)[0], mask, text


@pytest.mark.parametrize("size", [(37, 31), (64, 80), (5, 40)])
@pytest.mark.parametrize("channels", [1, 4])
def test_any_size_and_layout_comes_back(size, channels):
    image = photo(*size, channels=channels, batch=3)
    before = image.clone()
    restored, mask, text = sampled(image)
    assert restored.shape == image.shape and restored.dtype == torch.float32
    assert mask.shape == (3, *size) and mask.min() > 0 and mask.max() <= 1
    assert "evaluations per tile" in text and torch.equal(image, before)


def test_the_result_is_the_exact_trajectory():
    """Pixel priors know no tiles: every step gives the ODE's solution of the whole picture."""
    image = photo(40, 56)
    every = call("UndegradeStepPolicy", mode="every step", early_exit=False)[0]
    restored, mask, _ = sampled(image, policy=every, steps=200, seed=3)
    x = 2 * image.permute(0, 3, 1, 2) - 1
    first, last = karras(200, 0.4, 0.01)[[0, -1]].tolist()
    x = x + first * per_sample_noise([3])(x)
    x = x * ((0.25 + last**2) / (0.25 + first**2)) ** 0.5 * 0.25 / (0.25 + last**2)
    expected = ((x + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
    torch.testing.assert_close(restored, expected, atol=2e-4, rtol=0)
    assert (mask == 1).all()


def test_same_seed_same_picture_and_batches_are_their_samples():
    images = torch.cat([photo(40, 56), photo(40, 56).flip(2)])
    both = sampled(images, seed=5)[0]
    alone = [sampled(images[b : b + 1], seed=5 + b)[0] for b in (0, 1)]
    assert torch.equal(both, torch.cat(alone))
    for most in (1, 0):
        assert torch.equal(both, sampled(images, seed=5, tiles_per_call=most)[0])
    assert not torch.equal(both, sampled(images, seed=6)[0])


def test_a_calibrated_policy_runs_and_says_what_it_costs():
    options = {"steps": 12, "start_sigma": 2.0}
    injection = call("UndegradeFeatureInjection", strength=0.5)[0]
    policy, text = call(
        "UndegradeCalibrateRegions",
        prior=PRIOR,
        image=photo(64, 64),
        tile=32,
        injection=injection,
        **options,
    )
    assert policy.spans.measured and len(policy.spans.sigmas) == 12
    assert "4 tiles at 12 steps" in text and "balanced" in text
    _, _, told = sampled(photo(64, 64), policy=policy, injection=injection, **options)
    assert "not calibrated" not in told
    with pytest.raises(ValueError, match="calibrated for 12 steps"):
        sampled(photo(64, 64), policy=policy, injection=injection, steps=13, start_sigma=2.0)


def test_a_calibration_is_kept_for_the_same_prior_only():
    asked, bar = [], []

    class Counting(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            asked.append(len(x))
            return super().denoise(x, sigma, factor)

    def calibrate(**prior):
        asked.clear()
        given = {"prior": Counting(spec=PRIOR.spec, **prior), "image": photo(64, 64), "tile": 32}
        before = host.set_progress_sink(lambda _, value, total: bar.append((value, total)))
        spans = call("UndegradeCalibrateRegions", steps=10, **given)[0].spans
        host.set_progress_sink(before)
        return spans, len(asked)

    calibration._kept.clear()
    (first, calls), (second, again), (other, anew) = (
        calibrate(std=0.5), calibrate(std=0.5), calibrate(std=0.2)
    )
    assert first == second and calls == 11 and again == 1, "the probe only"
    assert bar[9:14] == [(10, 11), (11, 11), (1, 11), (11, 11), (1, 11)], "full in one go"
    assert anew == 11 and other.full_reference != first.full_reference


# Progress and interruption


def test_progress_counts_network_calls_and_ends_full():
    reports = []
    previous = host.set_progress_sink(lambda *report: reports.append(report))
    try:
        sampled(photo(64, 80), tiles_per_call=3)
    finally:
        host.set_progress_sink(previous)
    values = [value for _, value, _ in reports]
    assert values == list(range(1, len(values) + 1)) and len(values) > 10
    assert reports[-1][1] == reports[-1][2] and all(total >= v for _, v, total in reports)


def test_pictures_of_the_run_are_shown(monkeypatch):
    told = progress_bars.bar(monkeypatch)
    sampled(photo(64, 80), tiles_per_call=3)
    shown = [(value, total, preview[1]) for value, total, preview in told if preview]
    assert {picture.size for _, _, picture in shown} == {(80, 64)}
    assert shown[0][:2] == (1, told[0][1]) and shown[-1][0] == shown[-1][1], "first and last"


class StopError(Exception):
    """Stands for ComfyUI's InterruptProcessingException, a plain Exception."""


@pytest.mark.parametrize("node", ["sampler", "calibration"])
def test_cancel_stops_within_one_network_call(monkeypatch, node):
    calls = []

    class Counting(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            calls.append(sigma)
            return super().denoise(x, sigma, factor)

    def interrupted():
        if len(calls) == 4:
            raise StopError

    calibration._kept.clear()
    monkeypatch.setattr(host, "check_interrupted", interrupted)
    prior = Counting(spec=PRIOR.spec)
    with pytest.raises(StopError):
        if node == "sampler":
            sampled(photo(64, 64), prior=prior)
        else:
            call("UndegradeCalibrateRegions", prior=prior, image=photo(64, 64), tile=32)
    assert len(calls) == 4


# Bad input


def test_wrong_kinds_on_custom_sockets():
    tiles, grid = split(photo(64, 64))
    good = {"prior": PRIOR, "tiles": tiles, "grid": grid}
    for wrong, said in (
        ({"prior": 1}, "prior is of type int; connect"),
        ({"grid": 1}, "grid is of type int; connect Tile Splitter"),
        ({"tiles": 1}, "tiles is a int; connect a LATENT"),
        ({"policy": 1}, "policy is of type int; connect Step Policy"),
        ({"injection": 1}, "injection is of type int; connect Feature Injection"),
    ):
        with pytest.raises(TypeError, match=said):
            call("UndegradeRegionAdaptiveSampler", **{**good, **wrong})
    with pytest.raises(TypeError, match="policy is of type str"):
        call("UndegradeCalibrateRegions", prior=PRIOR, image=photo(), policy="x")


def test_tiles_that_do_not_belong_to_the_grid_or_the_prior():
    tiles, grid = split(photo(64, 64))
    fewer = {"samples": tiles["samples"][:4]}
    with pytest.raises(ValueError, match="tiles holds 4 of 32x32 and the grid is for 9 of 32x32"):
        call("UndegradeRegionAdaptiveSampler", prior=PRIOR, tiles=fewer, grid=grid)
    coarse = GaussianPrior(spec=PriorSpec(name="coarse", multiple_of=64))
    with pytest.raises(ValueError, match="the prior coarse needs multiples of 64"):
        call("UndegradeRegionAdaptiveSampler", prior=coarse, tiles=tiles, grid=grid)


def test_too_few_steps_say_so():
    with pytest.raises(ValueError, match="has 8 steps, too few to skip"):
        sampled(photo(64, 64), steps=8)
