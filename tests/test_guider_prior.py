"""A guider's run: prepared and released as ComfyUI does it, its models on the device in turn."""

import copy

import comfy_fakes as fakes
import pytest
import torch
from comfy_fakes import wrapped

from undegrade.nodes.comfyui import guider_prior, host, vae_codec
from undegrade.nodes.comfyui.wall import left


@pytest.fixture
def log(monkeypatch):
    return fakes.install(monkeypatch)


@pytest.mark.parametrize("key", sorted(guider_prior.TIMED))
def test_conditioning_for_some_levels_is_asked_sample_by_sample(log, draw, key):
    for entry, levels, calls in (
        ({key: 1}, [1.0, 2.0], 2),
        ({key: 1}, [2.0, 2.0], 1),
        ({}, [1.0, 2.0], 1),
    ):
        prior = wrapped(log, **entry)[1]
        x, sigma = draw(2, 4, 4, 4), torch.tensor(levels)
        log.clear()
        with host.running(prior):
            x0 = prior.denoise(x, sigma)
        assert log.count("network") == calls
        expected = 0.25 + (x - 0.25) / (1 + sigma[:, None, None, None] ** 2)
        assert torch.allclose(x0, expected)


def test_a_run_prepares_once_and_releases_in_order(log, draw):
    guider, prior = wrapped(log)
    before = copy.copy(vars(guider))
    with host.running(prior):
        assert log == []
        for batch in (2, 1, 2):
            prior.denoise(draw(batch, 4, 4, 4), torch.ones(batch))
            assert guider.model_patcher.hook_mode == "vram"
    assert log == [
        *("hooks", ("prepare", (2, 4, 4, 4)), "cast", "pre_run", "network", "network", "network"),
        *("cleanup", "cleanup_models", "cast", "restore_hook_patches"),
    ]
    assert guider.model_patcher.hook_mode == "speed" and vars(guider) == before
    with host.running(prior):  # and again
        prior.denoise(draw(1, 4, 8, 8), torch.ones(1))
        prior.denoise(draw(1, 4, 4, 4), torch.ones(1))
    prepared = [event[1] for event in log if event[0] == "prepare"]
    assert prepared == [(2, 4, 4, 4), (1, 4, 8, 8), (1, 4, 4, 4)]
    assert log.count("restore_hook_patches") == 3


@pytest.mark.parametrize("stage", ["prepare_sampling", "network"])
def test_an_error_or_an_interrupt_releases_too(log, draw, monkeypatch, stage):
    class StopError(Exception):
        pass

    def stop(*_, **__):
        raise StopError

    guider, prior = wrapped(log)
    if stage == "network":
        monkeypatch.setattr(fakes.Guider, "__call__", stop)
    else:
        monkeypatch.setattr(guider_prior.comfy("comfy.sampler_helpers"), stage, stop)
    with pytest.raises(StopError), host.running(prior):
        prior.denoise(draw(1, 4, 4, 4), torch.ones(1))
    assert log[-1] == "restore_hook_patches" and guider.model_patcher.hook_mode == "speed"
    assert ("cleanup" in log) == (stage == "network")
    with pytest.raises(RuntimeError, match="inside a run only"):
        prior.denoise(draw(1, 4, 4, 4), torch.ones(1))


def test_network_and_autoencoder_take_turns_on_the_device(log, draw):
    prior = wrapped(log)[1]
    z = draw(2, 4, 4, 4)
    with host.running(prior):
        prior.denoise(z, torch.ones(2))
        prior.codec.decode(z)
        prior.codec.decode(z)
        prior.denoise(z, torch.ones(2))
        prior.denoise(z, torch.ones(2))
    loads = [event for event in log if event[0] == "load"]
    decode = 200 * vae_codec.DERIVATIVE_MEMORY
    assert loads == [("load", ["vae"], decode), ("load", ["network", "controlnet"], 2000)]


def test_loading_happens_outside_of_derivatives(log, draw, monkeypatch):
    """A tensor made under torch.func belongs to that derivative; moved weights must not."""
    made = []
    management = guider_prior.comfy("comfy.model_management")
    inside = torch._C._functorch.maybe_current_level

    def load(models, **_):
        made.append((inside(), torch.is_inference_mode_enabled()))

    monkeypatch.setattr(management, "load_models_gpu", load)
    prior = wrapped(log)[1]
    z = draw(1, 4, 4, 4)
    one = torch.ones(1)  # before torch 2.8 nobody may read what was made in a derivative
    with torch.inference_mode(), left(), host.running(prior):
        _, pullback = torch.func.vjp(lambda x: prior.denoise(x, one), z)
        assert torch.allclose(pullback(z)[0], z / 2)
        torch.func.vjp(prior.codec.decode, z)
        torch.func.vjp(lambda x: prior.denoise(x, one), z)
    assert made == [(None, True)] * 3  # all of the network, the autoencoder, the network again
