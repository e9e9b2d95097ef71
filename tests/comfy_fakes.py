"""Stand-ins for the parts of ComfyUI that Prior From Guider asks; they write down what they get."""

from types import SimpleNamespace

import torch
from node_calls import call
from torch import nn

from undegrade.nodes.comfyui import guider_prior, host, model_weights, tiled_conditioning, vae_codec

SIGMAS = torch.linspace(-3.5, 2.7, 50).exp()  # 0.03 to 14.9


class Eps:
    """Model sampling of an eps or v model: x0 + sigma n."""

    def __init__(self, sigmas=SIGMAS, discrete=True):
        self.sigmas = sigmas
        if discrete:
            self.num_timesteps = len(sigmas)

    def noise_scaling(self, sigma, noise, latent, max_denoise=False):
        return latent + sigma * noise


class Flow(Eps):
    """Model sampling of a flow model: (1 - s) x0 + s n."""

    def __init__(self):
        super().__init__(torch.arange(1, 1001) / 1000, discrete=False)

    def noise_scaling(self, sigma, noise, latent, max_denoise=False):
        return (1 - sigma) * latent + sigma * noise


class Own(Eps):
    """A convention that nobody knows."""

    def noise_scaling(self, sigma, noise, latent, _):
        return latent * 0.5 + sigma * noise


class Latents:
    """A latent format: scaled by 2 and shifted."""

    latent_dimensions = 2

    def __init__(self, channels=4):
        self.latent_channels = channels
        self.latent_rgb_factors = [[0.1 * c, 0.2, -0.1] for c in range(channels)]

    def process_in(self, z):
        return 2 * z - 1

    def process_out(self, z):
        return (z + 1) / 2


class Pixels(Latents):
    """The latent format of a pixel-space model."""

    def __init__(self):
        super().__init__(3)

    def process_in(self, z):
        return z

    process_out = process_in


class Patcher:
    """A ModelPatcher; `log` is what happened to it, in order."""

    load_device = offload_device = torch.device("cpu")

    def __init__(self, sampling, latents, config, log):
        self.sampling, self.latents, self.log, self.hook_mode = sampling, latents, log, "speed"
        self.model = nn.Module()
        self.model.model_config, self.model.model_sampling = config, sampling

    def get_model_object(self, name):
        return {"model_sampling": self.sampling, "latent_format": self.latents}[name]

    def model_dtype(self):
        return torch.float32

    def pre_run(self):
        self.log.append("pre_run")

    def cleanup(self):
        self.log.append("cleanup")

    def restore_hook_patches(self):
        self.log.append("restore_hook_patches")


class Guider:
    """A GUIDER whose network pulls towards its condition; `asked` is (shape, levels) per call."""

    def __init__(self, patcher, target=0.25, **entry):
        self.model_patcher, self.model_options = patcher, {"transformer_options": {}}
        self.original_conds = {"positive": [{"target": target, **entry}]}
        self.asked = []

    def __call__(self, x, timestep, model_options, seed=None):
        assert model_options["transformer_options"]["sample_sigmas"][-1] == 0
        self.asked.append((tuple(x.shape), [float(level) for level in timestep]))
        self.model_patcher.log.append("network")
        cond = self.conds["positive"][0]
        s, a = timestep[:, None, None, None], 1 - timestep[:, None, None, None]
        if isinstance(self.model_patcher.sampling, Flow):  # x = a x0 + s n, x0 ~ N(target, 1)
            return cond["goal"] + a / (a**2 + s**2) * (x - a * cond["goal"])
        return cond["goal"] + (x - cond["goal"]) / (1 + s**2)


class Attention(nn.Module):
    """An attention block of ComfyUI's autoencoder."""

    def __init__(self):
        super().__init__()
        self.optimized_attention = fused_attention

    def forward(self, x):
        return x + 0.1 * self.optimized_attention(x, x, x)


def fused_attention(q, k, v):
    size = q.shape
    q, k, v = (t.flatten(2).transpose(1, 2)[:, None].contiguous() for t in (q, k, v))
    y = nn.functional.scaled_dot_product_attention(q, k, v)
    return y[:, 0].transpose(1, 2).reshape(size)


def normal_attention(q, k, v):
    size = q.shape
    q, k, v = (t.flatten(2) for t in (q, k, v))
    weights = (q.transpose(1, 2) @ k / q.shape[1] ** 0.5).softmax(-1)
    return (v @ weights.transpose(1, 2)).reshape(size)


class Autoencoder(nn.Module):
    """Reduces by 4: the mean of blocks and back, in its own range of [0, 1]."""

    def __init__(self):
        super().__init__()
        self.attention = Attention()

    def encode(self, pixels):
        z = nn.functional.avg_pool2d(pixels, 4)
        return torch.cat([z, z[:, :1]], 1)

    def decode(self, z):
        return self.attention(z)[:, :3].repeat_interleave(4, 2).repeat_interleave(4, 3)


def loadable(name, model):  # a ModelPatcher that is only loaded
    return SimpleNamespace(name=name, model=model, load_device=torch.device("cpu"))


class VAE:
    """comfy.sd.VAE, with latents of 4 channels and a side a fourth of the picture's."""

    def __init__(self):
        self.first_stage_model = Autoencoder()
        self.latent_channels, self.latent_dim, self.downscale_ratio = 4, 2, 4
        self.vae_dtype, self.device = torch.float32, torch.device("cpu")
        self.patcher = loadable("vae", self.first_stage_model)

    process_input = process_output = staticmethod(lambda image: image)

    def memory_used_decode(self, shape, dtype):
        return 100 * shape[0]

    def spacial_compression_decode(self):
        return self.downscale_ratio

    memory_used_encode, spacial_compression_encode = memory_used_decode, spacial_compression_decode


def modules(log):
    """name -> what `host.comfy(name)` shall return."""

    def prepare_model_patcher(patcher, conds, options):
        options["transformer_options"]["wrappers"] = log.append("hooks")

    def prepare_sampling(patcher, shape, conds, options):
        log.append(("prepare", tuple(shape)))
        return patcher.model, conds, [loadable("controlnet", nn.Module())]

    def process_conds(model, noise, conds, device, latent, mask, seed):
        assert latent is not None and not latent.any()
        for entries in conds.values():
            for entry in entries:
                entry["goal"] = entry["target"]
        return conds

    return {
        "comfy.samplers": SimpleNamespace(
            preprocess_conds_hooks=lambda conds: None,
            get_total_hook_groups_in_conds=lambda conds: 1,
            filter_registered_hooks_on_conds=lambda conds, options: None,
            cast_to_load_options=lambda options, device=None, dtype=None: log.append("cast"),
            process_conds=process_conds,
        ),
        "comfy.sampler_helpers": SimpleNamespace(
            prepare_model_patcher=prepare_model_patcher,
            prepare_sampling=prepare_sampling,
            cleanup_models=lambda conds, models: log.append("cleanup_models"),
            estimate_memory=lambda patcher, shape, conds: (1000 * shape[0], shape[0]),
        ),
        "comfy.hooks": SimpleNamespace(EnumHookMode=SimpleNamespace(MinVram="vram")),
        "comfy.model_patcher": SimpleNamespace(
            create_model_options_clone=lambda options: {k: dict(v) for k, v in options.items()}
        ),
        "comfy.model_management": SimpleNamespace(
            load_models_gpu=lambda models, memory_required=0, **_: log.append(
                ("load", [getattr(m, "name", "network") for m in models], memory_required)
            ),
            xformers_enabled_vae=bool,
            get_torch_device=lambda: Patcher.load_device,
            intermediate_device=lambda: Patcher.load_device,
            throw_exception_if_processing_interrupted=lambda: None,
        ),
        "comfy.ldm.modules.diffusionmodules.model": SimpleNamespace(
            normal_attention=normal_attention
        ),
    }


class SD15:
    """A model configuration; its class's name is the model's."""

    def __init__(self, config):
        self.unet_config = config


def install(monkeypatch) -> list:
    """ComfyUI for one test; returns the log."""
    known = modules(log := [])
    for owner in (host, vae_codec, guider_prior, tiled_conditioning, model_weights):
        monkeypatch.setattr(owner, "comfy", known.get)
    return log


def wrapped(log, vae="own", sampling=None, latents=None, config=None, **entry):
    """(guider, its prior by the node)."""
    unet = config if config is not None else {"channel_mult": [1, 2, 4], "model_channels": 320}
    patcher = Patcher(sampling or Eps(), latents or Latents(), SD15(unet), log)
    guider, vae = Guider(patcher, **entry), VAE() if vae == "own" else vae
    return guider, call("UndegradePriorFromGuider", guider=guider, vae=vae)[0]
