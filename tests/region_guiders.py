"""Stand-ins for what ComfyUI hands to a SAMPLER; they write down what they are asked."""

import copy
from itertools import pairwise
from types import SimpleNamespace

import comfy_fakes
import torch
import torch.nn.functional as F

from undegrade.nodes.comfyui import guider_prior, host, tiled_conditioning
from undegrade.nodes.regions import stock_sampler
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy

EVERY = StepPolicy(mode="every step", early_exit=False)
LATENTS = (4, 37, 31)


class Cond:
    """comfy.conds.CONDRegular."""

    def __init__(self, cond):
        self.cond = cond

    def _copy_with(self, cond):
        return type(self)(cond)


class Constant(Cond):
    """comfy.conds.CONDConstant."""


class Eps(comfy_fakes.Eps):
    sigma_max = property(lambda self: self.sigmas[-1])


class Flow(comfy_fakes.Flow):
    sigma_max = property(lambda self: self.sigmas[-1])


class Control:
    """A ControlNet that writes down its hint; `get_control` caches it by size, as ComfyUI's do."""

    compression_ratio, upscale_algorithm, vae = 8, "nearest-exact", None

    def __init__(self, hint, previous=None, span=None):
        self.cond_hint_original, self.previous_controlnet = hint, previous
        self.cond_hint, self.timestep_range, self.extra_concat_orig = None, span, []
        self.seen = []

    def set_previous_controlnet(self, control):
        self.previous_controlnet = control

    def get_control(self, x):
        previous = self.previous_controlnet and self.previous_controlnet.get_control(x)
        side = x.shape[-1] * 8
        if self.cond_hint is None or self.cond_hint.shape[-1] != side:
            self.cond_hint = F.interpolate(self.cond_hint_original, (x.shape[-2] * 8, side))
        self.seen.append(self.cond_hint)
        return self.cond_hint[:, :1, ::8, ::8] + (0 if previous is None else 0.1 * previous)


class Guider:
    """A guider whose network works pixel by pixel; `calls` is (x, sigma, conds, options)."""

    model_options: dict

    def __init__(self, conds=None, sampling=None):
        config = SimpleNamespace(unet_config={"channel_mult": [1, 2], "model_channels": 32})
        self.inner_model = SimpleNamespace(
            model_sampling=sampling or Eps(), model_config=config, model_lowvram=False
        )
        self.inner_model.scale_latent_inpaint = self.scaled
        self.conds = conds or {"positive": [{"model_conds": {}}], "negative": None}
        self.calls = []

    def scaled(self, x, sigma, noise, latent_image):
        column = sigma[:, None, None, None]
        return self.inner_model.model_sampling.noise_scaling(column, noise, latent_image)

    def __call__(self, x, sigma, model_options, seed):
        self.calls.append((x, sigma, self.conds, model_options))
        s = sigma[:, None, None, None]
        x0_hat = 0.3 * torch.sin(5 * x / (1 + s)) + 0.5 * x / (1 + s**2)
        for entry in self.conds["positive"]:
            if control := entry.get("control"):
                x0_hat = x0_hat + control.get_control(x)
        return x0_hat


def install(monkeypatch):
    """ComfyUI for one test."""
    known = {
        "comfy.conds": SimpleNamespace(CONDConstant=Constant),
        "comfy.utils": SimpleNamespace(
            common_upscale=lambda x, width, height, *_: F.interpolate(x, (height, width))
        ),
        "comfy.samplers": SimpleNamespace(),
        "comfy.model_patcher": SimpleNamespace(),
        "comfy.model_management": SimpleNamespace(
            throw_exception_if_processing_interrupted=lambda: None, soft_empty_cache=lambda: None
        ),
    }
    for owner in (host, guider_prior, tiled_conditioning):
        monkeypatch.setattr(owner, "comfy", known.get)
    return known


def karras(steps=12, top=4.0, low=0.05):
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    levels = (top ** (1 / 7) + ramp * (low ** (1 / 7) - top ** (1 / 7))) ** 7
    return torch.cat([levels, torch.zeros(1)]).float()


def sampler(policy=EVERY, tiles_per_call=3, injection=None, regressor=None, **options):
    values = {"solver": "euler", "noise": 1.0, "meetings": 0, "tile": 128, "overlap": 64, **options}
    node = stock_sampler.RegionAdaptiveSamplerStock()
    return node.make(tiles_per_call, policy, injection, regressor, **values)[0]


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(*shape):
    """Latents that are flat on the left and full of detail on the right."""
    return drawn(*shape, seed=1) * torch.linspace(0, 1.5, shape[-1])


def run(guider, made, sigmas=None, shape=(1, *LATENTS), mask=None, callback=None, **options):
    """What SamplerCustomAdvanced calls, under inference mode as in ComfyUI."""
    given = {"transformer_options": {}, **options}
    extra, before = {"model_options": given, "seed": 7}, copy.deepcopy(list(given))
    latent = pictures(*shape)
    with torch.inference_mode():
        levels = karras() if sigmas is None else sigmas
        out = made.sample(guider, levels, extra, callback, drawn(*shape), latent, mask, True)
    assert list(given) == before
    return out


def by_hand(guider, sigmas, solver, latent, noise, mask=None):
    """The stock loop of ComfyUI on a whole canvas."""
    x = guider.inner_model.model_sampling.noise_scaling(sigmas[0], noise, latent)
    old, before = None, None
    for sigma, following in pairwise(sigmas):
        level, seen = sigma.expand(len(x)), x
        if mask is not None:
            noisy = guider.scaled(x, level, noise, latent)
            seen = x * mask + noisy * (1 - mask)
        d = guider(seen, level, {}, 7)
        d = d if mask is None else d * mask + latent * (1 - mask)
        towards = d
        if solver == "dpm++ 2m" and old is not None and following > 0:
            h, last = (sigma / following).log(), (before / sigma).log()
            towards = d + h / (2 * last) * (d - old)
        x = following / sigma * x + (1 - following / sigma) * towards
        old, before = d, sigma
    return x

