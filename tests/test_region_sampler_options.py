"""Region-Adaptive Sampler (stock): what its options do, and what it refuses."""

from types import SimpleNamespace

import pytest
import torch
from region_guiders import (
    EVERY,
    LATENTS,
    Control,
    Flow,
    Guider,
    drawn,
    install,
    karras,
    run,
    sampler,
)

from undegrade.nodes.comfyui import guider_prior
from undegrade.pipelines.adadiffsr.information_gain import closed_form
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.tiling import TileGrid

SKIPPING = StepPolicy(mode="paper")


@pytest.fixture(autouse=True)
def comfyui(monkeypatch):
    return install(monkeypatch)


def entry(**given):
    return {"positive": [{"model_conds": {}, **given}], "negative": None}


def test_a_calibration_of_the_same_levels_in_double_precision_holds():
    sigmas = karras(30)
    spans = closed_form(sigmas[:-1].double() * (1 + 1e-7), 8)
    run(Guider(), sampler(StepPolicy(spans=spans)), sigmas)
    with pytest.raises(ValueError, match="calibrated for 30 steps"):
        run(Guider(), sampler(StepPolicy(spans=spans)), karras(30, top=3.0))


class Encoding(Control):
    """A ControlNet whose hint goes through a VAE, with a mask beside it; counts what it encodes."""

    compression_ratio, vae = 1, SimpleNamespace(spacial_compression_encode=lambda: 8)
    encoded = 0

    def get_control(self, x):
        if self.cond_hint is None:
            type(self).encoded += len(x)
            hint = torch.nn.functional.avg_pool2d(self.cond_hint_original, 8)
            self.cond_hint = torch.cat([hint, *self.extra_concat_orig], 1)
        self.seen.append(self.cond_hint)
        return self.cond_hint[:, :1]


def test_a_hint_goes_through_its_vae_once_per_tile_and_masks_follow():
    hint, mask = drawn(1, 3, 296, 248, seed=3), drawn(1, 37, 31, seed=4)
    control = Encoding(hint)
    control.extra_concat_orig = [mask]
    guider, grid = Guider(entry(control=control)), TileGrid(*LATENTS[1:], 16, 8)
    run(guider, sampler())
    assert Encoding.encoded == grid.count and control.extra_concat_orig[0] is mask
    latents = torch.nn.functional.avg_pool2d(grid.scaled(8).cut(hint), 8)
    wanted = torch.cat([latents, grid.cut(mask[None])], 1)
    for _, _, conds, options in guider.calls:
        tiles = list(options["transformer_options"]["undegrade_tiles"][1])
        assert torch.equal(conds["positive"][0]["control"].cond_hint, wanted[tiles])


def test_noise_and_meetings_do_something_and_are_refused_where_they_cannot():
    plain, less = (run(Guider(), sampler(noise=n)) for n in (1.0, 0.5))
    assert (plain - less).abs().max() > 0.01
    met = run(Guider(), sampler(SKIPPING, meetings=3), karras(30))
    assert torch.isfinite(met).all()
    with pytest.raises(ValueError, match="flow model: give 0"):
        run(Guider(sampling=Flow()), sampler(meetings=1), karras(top=0.9))


class TeaCache:
    def __call__(self, *_):
        raise AssertionError


@pytest.mark.parametrize(
    ("said", "given"),
    [
        ("do not fall to 0", {"sigmas": karras()[:6]}),
        ("do not fall to 0", {"sigmas": karras().flip(0)}),
        ("SIGMAS .* do not fall", {"sigmas": torch.zeros(1)}),
        ("5 dimensions", {"shape": (1, 4, 3, 16, 16)}),
        ("step cache", {"model_function_wrapper": TeaCache()}),
        ("step cache", {"transformer_options": {"easycache": object()}}),
        ("too few to skip", {"sigmas": karras(9), "policy": StepPolicy()}),
        ("overlap is 128", {"overlap": 128}),
        ("multiple of 8", {"tile": 100}),
        ("has an area", {"conds": entry(area=(8, 8, 0, 0))}),
        ("GLIGEN boxes", {"conds": entry(gligen=("position", None, []))}),
    ],
)
def test_refusals(said, given):
    made = {k: given.pop(k) for k in ("policy", "overlap", "tile") if k in given}
    with pytest.raises(ValueError, match=said):
        run(Guider(given.pop("conds", None)), sampler(**made), **given)


def test_outside_comfyui_the_node_says_what_to_use(monkeypatch):
    monkeypatch.setattr(guider_prior, "comfy", lambda _: None)
    with pytest.raises(RuntimeError, match="use Region-Adaptive Sampler elsewhere"):
        sampler()


def test_wrong_sockets():
    with pytest.raises(TypeError, match="connect Step Policy"):
        sampler(policy=3)
    with pytest.raises(TypeError, match="connect Feature Injection"):
        sampler(EVERY, injection=3)
