"""No node, and nothing that a node hands out, changes what other packs share with this one."""

import random

import numpy
import pytest
import region_guiders
import torch
from every_node import comfyui, latent, models, output, small_inputs
from global_state import changed, state
from node_calls import call

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.nodes.comfyui import host

__all__ = ["comfyui", "models"]  # fixtures
pytestmark = pytest.mark.usefixtures("comfyui")


@pytest.mark.parametrize("node_id", list(NODE_CLASS_MAPPINGS))
def test_no_node_changes_it(node_id):
    given = small_inputs(node_id)
    before = state()
    call(node_id, **given)
    assert changed(before, state()) == []


def noise():
    return output("UndegradePredictedNoise").generate_noise(latent())


def guided():
    prior = output("UndegradePriorFromGuider")
    with host.running(prior):
        x0_hat = prior.denoise(torch.ones(1, 4, 8, 12), torch.ones(1))
    return prior.codec.decode(prior.codec.encode(prior.codec.decode(x0_hat)))


def stock_regions():
    guider, made = region_guiders.Guider(), region_guiders.sampler()
    return region_guiders.run(guider, made, shape=(1, 4, 24, 31))


def modulated():
    model = output("UndegradeStableSRModule")
    return model.run(torch.ones(1, 4, 16, 24), torch.ones(1), sigmas=torch.ones(1))


@pytest.mark.parametrize("later", [noise, guided, stock_regions, modulated])
def test_nothing_that_comfyui_calls_later_changes_it(later):
    with torch.inference_mode():
        later()  # the first call reads files
        before = state()
        later()
        assert changed(before, state()) == []


def test_a_node_that_does_is_seen(monkeypatch):
    """The comparison sees every kind of change."""
    before, functional = state(), torch.nn.functional
    seed, kind = torch.get_rng_state(), torch.get_default_dtype()
    torch.rand(1), random.random(), numpy.random.rand()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True)
    monkeypatch.setattr(functional, "silu", functional.relu)
    try:
        seen = changed(before, state())
    finally:
        torch.set_rng_state(seed), torch.set_default_dtype(kind)
        torch.set_num_threads(torch.get_num_threads() - 1)
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(False)
    assert set(seen) >= {
        *("torch random", "python random", "numpy random", "dtype", "threads", "precision"),
        *("deterministic", "torch.nn.functional.silu"),
    }
