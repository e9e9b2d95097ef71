"""What ComfyUI calls later, on a card: guiders as priors, regions in stock samplers, StableSR."""

import pytest
import region_guiders
import torch
from every_node import latent, output
from node_calls import call

from undegrade.nodes.comfyui import host

pytestmark = pytest.mark.usefixtures("comfyui")
SHAPE = (1, 4, 24, 31)


def guided(device):
    prior = output("UndegradePriorFromGuider")
    prior.codec.vae.device = device
    prior.codec.vae.first_stage_model.to(device)
    x = torch.linspace(-1, 1, 4 * 8 * 12).reshape(1, 4, 8, 12).to(device)
    with host.running(prior):
        x0_hat = prior.denoise(x, torch.ones(1, device=device))
        picture, pullback = torch.func.vjp(prior.codec.decode, x0_hat)
        return prior.codec.encode(picture), pullback(picture)[0]


def stock_regions(device):
    guider, made = region_guiders.Guider(), region_guiders.sampler()
    noise, z_lr = region_guiders.drawn(*SHAPE), region_guiders.pictures(*SHAPE)
    mask = torch.ones(SHAPE)
    mask[..., :8] = 0
    levels = region_guiders.karras().to(device)
    extra = {"model_options": {"transformer_options": {}}, "seed": 7}
    given = (t.to(device) for t in (noise, z_lr, mask))
    noise, z_lr, mask = given
    with torch.inference_mode():
        return (made.sample(guider, levels, extra, None, noise, z_lr, mask, True),)


def stablesr(device):
    model = output("UndegradeStableSRModule")
    model.model.diffusion_model.to(device)
    x, t = torch.ones(1, 4, 16, 24, device=device), torch.ones(1, device=device)
    return (model.run(x, t, sigmas=torch.ones(1, device=device)),)


def predicted_noise(device):
    return (output("UndegradePredictedNoise").generate_noise(latent()),)


def posterior(device):
    prior = output("UndegradePriorFromGuider")
    prior.codec.vae.device = device
    prior.codec.vae.first_stage_model.to(device)
    m = output("UndegradeDegradeImage", 1)
    given = {"prior": prior, "measurement": m, "steps": 3, "sigma_max": 5.0}
    return (call("UndegradePosteriorSampler", **given)[0],)


@pytest.mark.parametrize("later", [guided, posterior, stock_regions, stablesr, predicted_noise])
def test_it_gives_the_cpus_values(later, card, use):
    results = [[t.cpu() for t in later(use(device))] for device in ("cpu", card)]
    for a, b in zip(*results, strict=True):
        assert a.std() > 1e-4 and (a - b).abs().max() < 1e-4 * max(1.0, a.abs().max().item())
