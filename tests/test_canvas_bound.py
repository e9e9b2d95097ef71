"""Patches on a MODEL that hold a picture of the whole canvas, where the model sees less of it."""

import comfy_fakes
import pytest
import torch
from region_guiders import EVERY, Guider, install, run, sampler

from undegrade.models.prior import MultiResolutionPrior
from undegrade.nodes.comfyui.model_patches import refuse_canvas_bound
from undegrade.nodes.posterior.sampler import PosteriorSampler
from undegrade.nodes.priors import MultiResolution
from undegrade.nodes.regions.sampler import check_sockets
from undegrade.nodes.tiles import TiledPriorNode
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.downscale import Downscale

LATENT, IMAGE = torch.zeros(1, 4, 9, 6), torch.zeros(1, 72, 48, 3)


class Hint:
    def __init__(self, hint):
        self.hint = hint

    def patch(self, h):
        return h

    __call__ = patch


class Tiled(Hint):
    per_sample = True


def guidance(hint):
    """A function as nodes put it on a model."""
    return lambda args: args["denoised"] - hint


def as_patch(patch):
    return {"transformer_options": {"patches": {"output_block_patch": [patch]}}}


BOUND = {
    "method": as_patch(Hint(LATENT).patch), "object": as_patch(Hint(IMAGE)),
    "pair": as_patch((torch.nn.Upsample, Hint(IMAGE).patch)),
    "channels first": as_patch(Hint(IMAGE.movedim(-1, 1))),
    "closure": {"sampler_post_cfg_function": [guidance(LATENT)]},
}  # fmt: skip
FREE = {
    "nothing": {}, "its own": as_patch(Tiled(LATENT)), "a number": as_patch(Hint(0.5)),
    "tokens": as_patch(Hint(torch.zeros(1, 257, 1280))),
    "layers of tokens": as_patch(Hint(torch.zeros(3, 1, 729, 1152))),
    "a weight per channel": {"sampler_post_cfg_function": [guidance(torch.ones(1, 4, 1, 1))]},
}  # fmt: skip


@pytest.mark.parametrize("name", BOUND)
def test_the_sampler_refuses_them(name):
    with pytest.raises(ValueError, match=r"has a patch \((Hint|guidance)\) .* shown tiles of it; "):
        refuse_canvas_bound(BOUND[name], 4, "tiles of it")


@pytest.mark.parametrize("name", FREE)
def test_others_may_stay(name):
    refuse_canvas_bound(FREE[name], 4, "tiles of it")


def test_region_adaptive_sampler_stock_refuses_them(monkeypatch):
    install(monkeypatch)
    with pytest.raises(ValueError, match="brings a picture for the whole canvas"):
        run(Guider(), sampler(EVERY), **BOUND["method"])


def test_priors_of_comfyuis_models_are_refused_where_they_see_less(monkeypatch):
    log = comfy_fakes.install(monkeypatch)
    guider, prior = comfy_fakes.wrapped(log)
    MultiResolution().wrap(prior, 3, "")
    check_sockets(prior, None, None)
    guider.model_options = BOUND["method"]
    with pytest.raises(ValueError, match="is shown smaller ones; take that patch off"):
        MultiResolution().wrap(prior, 3, "")
    assert isinstance(MultiResolution().wrap(prior, 1, "")["result"][0], MultiResolutionPrior)
    for tiled in (
        lambda: TiledPriorNode().wrap(prior, 0, tile=512, overlap=64),
        lambda: check_sockets(MultiResolutionPrior(prior, (1,), ()), None, None),
    ):
        with pytest.raises(ValueError, match="is shown tiles of it"):
            tiled()


def test_schedules_that_begin_with_less_refuse_them(draw, monkeypatch):
    guider, prior = comfy_fakes.wrapped(
        comfy_fakes.install(monkeypatch), None, latents=comfy_fakes.Pixels()
    )
    guider.model_options = BOUND["object"]
    m = Measurement(draw(1, 3, 16, 16), Downscale(2), 0.05)
    with pytest.raises(ValueError, match="is shown smaller ones; take that patch off"):
        PosteriorSampler().sample(prior, m, 0, 1, False, schedule="fast")
