"""Region-Adaptive Sampler (stock) with a regressor: it steers, and is refused where foreign."""

import pytest
import torch
from region_guiders import LATENTS, Flow, Guider, drawn, install, karras, pictures, run, sampler
from test_region_regressor import random_weights

from undegrade.models.region_regressor import RegionRegressor, RegressorNetwork, Trained
from undegrade.pipelines.adadiffsr.information_gain import closed_form
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.tiling import TileGrid

SIGMAS = karras(12)
GRID = TileGrid(*LATENTS[1:], 16, 8)


@pytest.fixture(autouse=True)
def comfyui(monkeypatch):
    return install(monkeypatch)


def regressor(channels=4, levels=SIGMAS[:-1], kind=RegionRegressor):
    known = tuple(levels.double().tolist())
    trained = Trained("sd", ("p",), known, (0.01, 0.02), (0.5, 0.25), 0.1, "some")
    return kind(random_weights(RegressorNetwork(channels, (8, 12, 16), 16)), trained)


def asked(made, **given):
    guider = Guider()
    picture = run(guider, made, SIGMAS, **given)
    return picture, sum(len(x) for x, *_ in guider.calls)


def test_its_gains_steer_the_regions():
    def evaluations(value):
        class Constant(RegionRegressor):
            def predict(self, x, *_):
                return torch.full((len(x), 2, 2, 2), value)

        return asked(sampler(StepPolicy(), regressor=regressor(kind=Constant)))[1]

    assert evaluations(0.0) < 0.7 * 12 * GRID.count < evaluations(10.0) == 12 * GRID.count


def test_it_is_shown_every_tile_in_the_models_own_units(monkeypatch):
    shown, made = [], regressor()
    monkeypatch.setattr(
        type(made), "predict", lambda self, *given: shown.append(given) or torch.ones(
            len(given[0]), 2, 2, 2
        )
    )  # fmt: skip
    guider = Guider()
    run(guider, sampler(StepPolicy(), 5, regressor=made), SIGMAS)
    tiles = GRID.cut(pictures(1, *LATENTS))
    assert len(shown) == len(guider.calls)
    for (x, x0_hat, _, z_lr, sigma, _), (asked_x, level, _, options) in zip(
        shown, guider.calls, strict=True
    ):
        own = list(options["transformer_options"]["undegrade_tiles"][1])
        assert torch.equal(x, asked_x) and torch.equal(z_lr, tiles[own])
        assert torch.allclose(sigma.float(), level) and x0_hat.shape == x.shape


def test_the_result_does_not_depend_on_the_batch_and_differs_from_that_without():
    one, few = (asked(sampler(StepPolicy(), k, regressor=regressor())) for k in (1, 7))
    without = asked(sampler(StepPolicy(), 7))
    assert torch.allclose(one[0], few[0], atol=1e-4) and one[1] == few[1]
    assert (few[0] - without[0]).abs().max() > 1e-4


def test_a_calibration_of_the_policy_must_still_be_of_the_run():
    spans = closed_form(SIGMAS[:-1].double() * (1 + 1e-7), 8)
    run(Guider(), sampler(StepPolicy(spans=spans), regressor=regressor()), SIGMAS)
    with pytest.raises(ValueError, match="calibrated for 12 steps"):
        longer = regressor(levels=karras(30, top=9.0)[:-1])
        run(Guider(), sampler(StepPolicy(spans=spans), regressor=longer), karras(13))


@pytest.mark.parametrize(
    ("said", "made", "given"),
    [
        (r"trained with sd on states of 3 channels, and \w+ has 4", regressor(3), {}),
        ("a diffusion model, and .* is a flow model", regressor(), {"sampling": Flow()}),
        ("knows noise levels from 2 to 0.05 and the run goes from 4",
         regressor(levels=karras(12, top=2.0)[:-1]), {}),
    ],
)  # fmt: skip
def test_a_regressor_of_something_else_is_refused(said, made, given):
    levels = karras(12, top=0.9) if given else SIGMAS
    guider = Guider(**given)
    with pytest.raises(ValueError, match=said):
        run(guider, sampler(StepPolicy(), regressor=made), levels)
    assert guider.calls == []


def test_another_socket_is_refused():
    with pytest.raises(TypeError, match="connect Load Region Entropy Regressor"):
        sampler(StepPolicy(), regressor=drawn(1))
