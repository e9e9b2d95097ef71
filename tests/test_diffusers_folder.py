"""Diffusers' pixel networks, as folders and single files, against diffusers' own scheduler."""

import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, EulerDiscreteScheduler, UNet2DModel
from diffusers_folders import edit, pixel_folder, pixel_network
from safetensors.torch import load_file, save_file

from undegrade.models.discrete import DiscretePrior
from undegrade.models.noise_table import sigmas_of, vp_sigmas
from undegrade.models.registry import load_pixel_prior, networks_of
from undegrade.nodes.comfyui.wall import left

GOOGLE = {  # what google/ddpm-celebahq-256 and its like set otherwise than the defaults
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
    "attention_head_dim": None,
}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    pixel_folder(folder)
    return folder


def official(network, scheduler, x0, noise, t: int):
    """(x in this pack's convention, sigma, diffusers' own x0) of one picture at time t."""
    times = torch.tensor([t])
    x_vp = scheduler.add_noise(x0, noise, times)
    with torch.inference_mode(), left():
        f = network(x_vp, times).sample
    x0_hat = scheduler.step(f, t, x_vp).pred_original_sample
    abar = scheduler.alphas_cumprod[t].double()
    return x_vp / abar.sqrt().float(), sigmas_of(abar[None]).float(), x0_hat


@pytest.mark.parametrize(("prediction", "schedule", "clip"), [
    ("epsilon", "linear", True), ("v_prediction", "scaled_linear", True),
    ("sample", "squaredcos_cap_v2", True), ("epsilon", "scaled_linear", False),
    ("v_prediction", "squaredcos_cap_v2", False), ("sample", "linear", False)])
def test_x0_hat_is_diffusers_own(tmp_path, whole, draw, prediction, schedule, clip):
    scheduler = DDPMScheduler(
        prediction_type=prediction, beta_schedule=schedule, clip_sample=clip, clip_sample_range=0.8
    )
    shutil.copytree(whole, tmp_path / "ddpm")
    scheduler.save_pretrained(tmp_path / "ddpm" / "scheduler")
    prior = load_pixel_prior(tmp_path / "ddpm")
    network = UNet2DModel.from_pretrained(whole / "unet").eval()
    cases = [
        official(network, scheduler, draw(1, 3, 32, 48), draw(1, 3, 32, 48), t)
        for t in (0, 357, 900)
    ]
    x, sigma, want = (torch.cat(parts) for parts in zip(*cases, strict=True))
    with torch.inference_mode(), left():
        got = prior.denoise(x, sigma)
    assert got.dtype == torch.float32 and (got.abs().max() <= 0.8) == clip
    assert want.abs().max() > (0.7 if clip else 1.5)
    error = (got - want).abs().amax((1, 2, 3)) / (1 + sigma)  # rounding of f counts sigma times
    assert error.max() < 1e-5


def test_noise_levels_are_the_schedulers(tmp_path):
    scheduler = DDPMScheduler(num_train_timesteps=200, beta_end=0.05)
    pixel_folder(tmp_path / "ddpm", scheduler)
    spec = load_pixel_prior(tmp_path / "ddpm").spec
    abar = (1 - torch.linspace(1e-4, 0.05, 200)).cumprod(0).double()
    assert torch.allclose(spec.sigmas, ((1 - abar) / abar).sqrt(), rtol=1e-12, atol=0)
    assert (spec.sigma_min, spec.sigma_max) == (spec.sigmas[0].item(), spec.sigmas[-1].item())
    assert (spec.native_size, spec.multiple_of, spec.channels) == (32, 2, 3)
    assert spec.trained_factors == (1,) and spec.name == "ddpm"


def test_the_table_of_ddpm_is_the_published_one_bit_for_bit():
    assert torch.equal(sigmas_of(DDPMScheduler().alphas_cumprod), vp_sigmas(torch.float32))


@pytest.mark.parametrize("cls", [DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler])
def test_zero_terminal_snr_ends_one_level_earlier(tmp_path, draw, cls):
    """Its last level is infinite noise, which Euler's scheduler replaces by 4096."""
    settings = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    pixel_folder(tmp_path / "zero", cls(**settings))
    prior = load_pixel_prior(tmp_path / "zero")
    count = 1000 if cls is EulerDiscreteScheduler else 999
    top = 4096 if cls is EulerDiscreteScheduler else 15406
    assert len(prior.spec.sigmas) == count
    assert prior.spec.sigma_max == pytest.approx(top, rel=1e-3)
    sigma = torch.tensor([prior.spec.sigma_max])
    out = prior.denoise(sigma * draw(1, 3, 32, 32), sigma)
    assert torch.isfinite(out).all() and out.abs().max() > 0.5


def test_a_scheduler_of_another_class_keeps_its_own_defaults(tmp_path):
    """DDPM clips unless told otherwise, Euler's never does."""
    for name, scheduler, clip in (
        ("a", DDPMScheduler(), 1.0),
        ("b", EulerDiscreteScheduler(), None),
    ):
        pixel_folder(tmp_path / name, scheduler)
        edit(tmp_path / name / "scheduler" / "scheduler_config.json", clip_sample=None)
        assert load_pixel_prior(tmp_path / name).clip == clip


@pytest.mark.parametrize("changes", [{}, GOOGLE, {"out_channels": 6}])
def test_the_configuration_counts(tmp_path, draw, changes):
    network = pixel_folder(tmp_path / "ddpm", **changes)
    loaded = networks_of(load_pixel_prior(tmp_path / "ddpm"))[0]
    x, t = draw(2, 3, 32, 32), torch.tensor([3, 700])
    assert torch.equal(loaded(x, t).sample, network(x, t).sample)


@pytest.mark.parametrize("kind", ["safetensors", "fp16.safetensors", "bin"])
def test_flat_folders_older_names_and_half_weights(tmp_path, draw, kind):
    """The layout of google/ddpm-*: all side by side, attention under its older names."""
    network = pixel_folder(tmp_path / "ddpm")
    flat, tensors = tmp_path / "flat", load_file(tmp_path / "ddpm" / "unet" / WEIGHTS)
    flat.mkdir()
    for place in ("unet/config.json", "scheduler/scheduler_config.json"):
        (tmp_path / "ddpm" / place).rename(flat / place.split("/")[1])
    older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for now, then in older.items():
        tensors = {k.replace(f".{now}.", f".{then}."): v for k, v in tensors.items()}
    assert sum(".proj_attn." in key for key in tensors) == 2 * 4
    if kind.startswith("fp16"):
        tensors = {k: v.half() for k, v in tensors.items()}
    path = flat / f"diffusion_pytorch_model.{kind}"
    torch.save(tensors, path) if kind == "bin" else save_file(tensors, path)
    loaded = networks_of(load_pixel_prior(path))[0]  # the file itself, or its folder
    x, t = draw(1, 3, 32, 32), torch.tensor([300])
    want = network(x, t).sample
    assert (loaded(x, t).sample - want).abs().max() < (0.02 if "fp16" in kind else 1e-6)
    assert not torch.is_grad_enabled() or not loaded(x, t).sample.requires_grad


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"out_channels": 6, "layers_per_block": 2},
        {"resnet_time_scale_shift": "scale_shift"},
        {"resnet_time_scale_shift": "scale_shift", "attn_norm_num_groups": 32},
        {
            "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
            "up_block_types": ("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
            "downsample_type": "resnet",
            "upsample_type": "resnet",
        },
        {"add_attention": False, "time_embedding_dim": 96},
    ],
)
def test_a_file_alone_tells_its_shapes(tmp_path, draw, changes):
    network = pixel_network(**changes)
    save_file(network.state_dict(), tmp_path / "ema.bin")
    prior = load_pixel_prior(tmp_path / "ema.bin")
    x, t = draw(2, 3, 32, 32), torch.tensor([3, 700])
    assert isinstance(prior, DiscretePrior) and prior.spec.multiple_of == 2
    assert torch.equal(networks_of(prior)[0](x, t).sample, network(x, t).sample)
    assert torch.equal(prior.spec.sigmas, vp_sigmas(torch.float32)) and prior.clip == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_and_gives_float32(tmp_path, draw, dtype):
    pixel_folder(tmp_path / "ddpm")
    half, full = (load_pixel_prior(tmp_path / "ddpm", d) for d in (dtype, torch.float32))
    assert {p.dtype for p in half.network.parameters()} == {dtype}
    x, sigma = draw(1, 3, 32, 32), torch.tensor([0.5])
    with torch.inference_mode(), left():
        got, want = half.denoise(x, sigma), full.denoise(x, sigma)
    assert got.dtype == torch.float32 and 0 < (got - want).abs().max() < 0.1


def test_a_sample_in_a_batch_is_itself_and_the_gradient_passes(tmp_path, draw):
    scheduler = DDPMScheduler(prediction_type="v_prediction", clip_sample=False)
    pixel_folder(tmp_path / "ddpm", scheduler)
    prior = load_pixel_prior(tmp_path / "ddpm")
    x, sigma, u, v = draw(3, 3, 32, 32), torch.tensor([0.05, 0.4, 3.0]), draw(3), draw(3, 3, 32, 32)
    with torch.inference_mode(), left():
        together = prior.denoise(x, sigma)
        alone = torch.cat([prior.denoise(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
        weights = u.view(3, 1, 1, 1) * torch.ones_like(x)
        pulled = torch.func.vjp(lambda z: prior.denoise(z, sigma), x)[1](weights)[0]
        ahead, back = (prior.denoise(x + e * v, sigma) for e in (1e-3, -1e-3))
    assert (together - alone).abs().max() < 1e-5
    difference = (weights * (ahead - back)).sum() / 2e-3
    assert (pulled * v).sum().item() == pytest.approx(difference.item(), rel=0.02)
