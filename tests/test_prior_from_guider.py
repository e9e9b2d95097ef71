"""Prior From Guider, with stand-ins for ComfyUI: what it reads and refuses."""

from types import SimpleNamespace

import comfy_fakes as fakes
import pytest
import torch
from comfy_fakes import wrapped
from node_calls import call, measured, sampled

from undegrade.models.codec import IDENTITY
from undegrade.models.prior import Prior
from undegrade.nodes.comfyui import host


@pytest.fixture
def log(monkeypatch):
    return fakes.install(monkeypatch)


def test_what_a_sampler_is_told(log):
    prior = wrapped(log)[1]
    spec = prior.spec
    assert isinstance(prior, Prior) and isinstance(prior, host.HostedPrior)
    assert (spec.channels, spec.multiple_of, spec.native_size, spec.name) == (4, 4, 512, "SD15")
    assert torch.equal(spec.sigmas, fakes.SIGMAS)
    assert (spec.sigma_min, spec.sigma_max) == (
        pytest.approx(fakes.SIGMAS[0].item()),
        pytest.approx(fakes.SIGMAS[-1].item()),
    )
    assert prior.codec.factor == 4 and not prior.flow
    assert log == []  # nothing is loaded before a run


@pytest.mark.parametrize(
    ("config", "multiple", "side"),
    [
        ({"channel_mult": [1, 2, 4, 4]}, 8, 512),
        ({"channel_mult": [1, 2, 4], "adm_in_channels": 2816}, 4, 1024),
        ({"image_model": "flux"}, 2, 1024),
        ({"image_model": "x", "patch_size": [1, 4, 4]}, 4, 1024),
        ({}, 8, 1024),
    ],
)
def test_sizes_come_from_the_models_configuration(log, config, multiple, side):
    spec = wrapped(log, config=config)[1].spec
    assert (spec.multiple_of, spec.native_size) == (multiple, side)


def test_continuous_models_have_no_table_and_no_level_above_100(log):
    wide = torch.linspace(-6, 6.5, 1000).exp()
    spec = wrapped(log, sampling=fakes.Eps(wide, discrete=False))[1].spec
    assert spec.sigmas is None and spec.sigma_min == 0.01
    assert spec.sigma_max == pytest.approx(100, rel=0.02) and spec.sigma_max <= 100
    spec = wrapped(log, sampling=fakes.Eps(wide))[1].spec
    assert spec.sigmas.max() == spec.sigma_max <= 100 and spec.sigma_min == wide[0].item()


def test_predictions_are_the_guiders_own_with_a_level_per_sample(log, draw):
    guider, prior = wrapped(log, target=0.5)
    x, sigma = draw(3, 4, 6, 5), torch.tensor([0.1, 3.0, 3.0])
    with host.running(prior):
        x0 = prior.denoise(x, sigma)
    expected = 0.5 + (x - 0.5) / (1 + sigma[:, None, None, None] ** 2)
    assert torch.equal(x0, expected)
    assert guider.asked == [((3, 4, 6, 5), sigma.tolist())]  # one call
    assert not hasattr(guider, "conds")  # a copy was made ready
    assert guider.original_conds["positive"] == [{"target": 0.5}]
    assert guider.model_options == {"transformer_options": {}}


def test_a_flow_model_gets_the_same_noise_level(log, draw):
    """E[x0 | x] of x0 ~ N(t, 1) is the same whichever way picture and noise are mixed."""
    prior = wrapped(log, sampling=fakes.Flow(), target=0.5)[1]
    assert prior.flow and prior.spec.sigmas is None
    assert prior.spec.sigma_min == 0.01
    assert prior.spec.sigma_max == pytest.approx(0.99 / 0.01, rel=1e-4)
    x, sigma = draw(3, 4, 6, 5), torch.tensor([0.01, 1.0, 90.0])
    x *= sigma[:, None, None, None]
    with host.running(prior):
        x0 = prior.denoise(x, sigma)
    expected = 0.5 + (x - 0.5) / (1 + sigma[:, None, None, None] ** 2)
    assert (x0 - expected).abs().max() < 1e-5


def test_a_restoration_with_a_latent_model(log):
    prior = wrapped(log)[1]
    image, trajectory = sampled(measured()[1], prior=prior, keep_trajectory=True)
    assert image.shape == (1, 32, 48, 3) and torch.isfinite(image).all()
    assert trajectory.steps[0].x.shape == (1, 4, 8, 12)
    assert log.count("restore_hook_patches") == 1 and not prior.sessions
    log.clear()
    assert call("UndegradeTrajectoryCorrector", trajectory=trajectory)[0].shape == image.shape
    assert [event[1] for event in log] == [["vae"]]  # the network is left alone


def test_a_pixel_space_model_needs_no_vae(log):
    for vae in (None, SimpleNamespace(downscale_ratio=1)):
        prior = wrapped(log, vae=vae, latents=fakes.Pixels())[1]
        assert prior.codec is IDENTITY
        assert sampled(measured()[1], prior=prior)[0].shape == (1, 32, 48, 3)


def changed(**attributes):
    vae = fakes.VAE()
    for name, value in attributes.items():
        setattr(vae, name, value)
    return vae


def test_what_does_not_fit_is_refused_in_one_sentence(log):
    video = fakes.Latents()
    video.latent_dimensions = 3
    cases = [
        ({"latents": video}, "SD15 makes videos, sound or shapes"),
        ({"vae": None}, "latents of 4 channels; connect its VAE"),
        ({"sampling": fakes.Own()}, "mixes picture and noise in a way of its own"),
        ({"vae": changed(first_stage_model=None)}, "The VAE is empty"),
        ({"vae": changed(latent_channels=16)}, "VAE makes latents of 16 channels in 2 dim"),
        ({"vae": changed(latent_dim=3)}, "in 3 dimensions"),
        ({"vae": changed(process_input=lambda x: x**2)}, "unknown way"),
        (
            {"vae": changed(spacial_compression_encode=lambda: 32)},
            "enlarges by 4 but reduces by 32",
        ),
    ]
    for given, said in cases:
        with pytest.raises(ValueError, match=said):
            wrapped(log, **given)
    with pytest.raises(TypeError, match="vae is of type int; connect the model's VAE"):
        wrapped(log, vae=7)
    with pytest.raises(TypeError, match="guider is of type int; connect CFGGuider"):
        call("UndegradePriorFromGuider", guider=7)


def test_without_comfyui():
    with pytest.raises(RuntimeError, match="inside ComfyUI only"):
        call("UndegradePriorFromGuider", guider=None)
