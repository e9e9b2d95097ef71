"""ADM checkpoints: the network they become, what is refused, and the prior made of it."""

import json
from pathlib import Path

import pytest
import torch
from adm_reference import FFHQ, IMAGENET, Published, published, random_weights
from safetensors import safe_open
from safetensors.torch import save_file

from undegrade.models import adm
from undegrade.models.discrete import DiscretePrior
from undegrade.models.noise_table import timestep_of, vp_sigmas
from undegrade.models.registry import load_pixel_prior, networks_of
from undegrade.models.weights import UnsupportedWeightsError
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.gradient import LikelihoodGradient

GOLDEN = Path(__file__).parent / "golden" / "subdaps_super_resolution.safetensors"


@pytest.fixture(scope="module")
def small():
    return random_weights(32, *FFHQ)


@pytest.fixture(scope="module")
def prior(small):
    return adm.load(small, {}, "small")


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("config", [FFHQ, IMAGENET])
def test_network_is_the_published_one(config, size, draw):
    weights = random_weights(32, *config)
    network = networks_of(adm.load(weights, {}, "small"))[0]
    x, t = draw(3, 3, size, size), torch.tensor([0.0, 250.5, 999.0])
    with torch.inference_mode(), left():
        want, got = Published(weights, config[0])(x, t), network(x, t).sample
    assert want.abs().max() > 1 and want.shape == (3, 6, size, size)
    assert (got - want).abs().max() / want.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("base", "config", "count", "parameters"),
    [(128, FFHQ, 362, 93_563_910), (256, IMAGENET, 566, 552_814_086)],
)
def test_every_tensor_of_the_published_files_has_its_place(base, config, count, parameters):
    from diffusers import UNet2DModel

    with torch.device("meta"):
        tensors = {k: torch.empty(shape) for k, shape in published(base, *config).items()}
        network = UNet2DModel(**adm.configuration(tensors, "full"))
    assert (len(tensors), sum(v.numel() for v in tensors.values())) == (count, parameters)
    mapped = {k: v.shape for k, v in adm.translate(tensors, "full").items()}
    assert adm.detect(tensors) and mapped == {k: v.shape for k, v in network.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("kind", ["torch", "wrapped", "safetensors"])
def test_files_are_recognised_by_their_tensors(tmp_path, small, prior, dtype, kind):
    path, tensors = tmp_path / "model.bin", {k: v.to(dtype) for k, v in small.items()}
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        torch.save({"state_dict": tensors} if kind == "wrapped" else tensors, path)
    loaded = load_pixel_prior(path)
    assert isinstance(loaded, DiscretePrior) and loaded.spec.name == "model.bin"
    expected = {k: v.to(dtype).float() for k, v in networks_of(prior)[0].state_dict().items()}
    got = networks_of(loaded)[0].state_dict()
    assert all(torch.equal(got[k], v) and got[k].dtype == v.dtype for k, v in expected.items())
    assert not any(p.requires_grad for p in networks_of(loaded)[0].parameters())


def changed(key: str, shape: tuple[int, ...] | None = None, dtype=torch.float32):
    """Another shape or dtype for one tensor, or without either, no such tensor."""

    def apply(tensors):
        kept = {k: v for k, v in tensors.items() if k != key}
        return kept if shape is None else kept | {key: torch.zeros(shape, dtype=dtype)}

    return apply


def without_residual_resizing(tensors):
    return {k: v for k, v in tensors.items() if not adm.LEVEL_END.match(k)}


SCALE, QKV = "input_blocks.1.0.emb_layers.1.weight", "input_blocks.9.1.qkv.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("label_emb.weight", (1000, 128)), "needs class labels"),
        (without_residual_resizing, r"no residual upsampling blocks \(resblock_updown\)"),
        (changed("input_blocks.1.1.transformer_blocks.0.norm1.weight", (32,)), "no architecture"),
        (changed("input_blocks.0.0.weight", (32, 4, 3, 3)), "no architecture"),
        (changed("out.2.weight", (4, 32, 3, 3)), "no architecture"),
        (changed("middle_block.1.norm.bias"), r"1 missing \(mid_block.attentions.0.group_norm"),
        (changed("input_blocks.3.0.out_layers.3.weight"), "lacks a proper tensor input_blocks.3"),
        (changed("time_embed.0.weight", ()), r"lacks a proper tensor time_embed.0.weight"),
        (changed("extra.weight", (3,)), r"tensor extra.weight of shape \(3,\), which this layout"),
        (changed("input_blocks.12.0.weight", (3,)), "13 input blocks, which do not divide into"),
        (changed("input_blocks.1.0.more.bias", (3,)), r"1 unexpected \(down_blocks.0.resnets.0.m"),
        (changed(SCALE, (32, 128)), r"another shape \(down_blocks.0.resnets.0.time_emb_proj.w"),
        (changed(SCALE, (64, 128), torch.int8), r"1 not floating point \(down_blocks.0.resnets"),
        (changed(QKV, (3 * 96, 96, 1)), r"qkv.weight of shape \(288, 96, 1\), which this layout"),
        (changed("time_embed.0.weight", (128, 64)), r"attention in \[128, 128\], times of 64"),
        (changed("input_blocks.7.0.out_layers.3.weight", (48, 48, 3, 3)), r"64, 48, 128, 128\] ch"),
    ],
)
def test_refusals(tmp_path, small, change, said):
    save_file(change(small), tmp_path / "p.pt")
    with pytest.raises(UnsupportedWeightsError, match=said) as error:
        load_pixel_prior(tmp_path / "p.pt")
    assert "p.pt" in str(error.value) and str(error.value).endswith(".")
    assert ". " not in str(error.value), "one sentence"


def test_time_of_a_noise_level():
    table = vp_sigmas()
    for dtype in (torch.float32, torch.float64):
        exact = timestep_of(table.to(dtype), table)
        assert exact.dtype == dtype and torch.equal(exact, torch.arange(1000, dtype=dtype))
    middles = timestep_of((table[1:] * table[:-1]).sqrt(), table)
    assert torch.allclose(middles, torch.arange(999).double() + 0.5, rtol=0, atol=1e-9)
    ends = timestep_of(torch.tensor([1e-4, 1e4]), table)
    assert ends.tolist() == [0, 999]


def test_x0_hat_by_its_formula(small, prior, draw):
    """eps of the first three channels at the state and time of the official code, then the clip."""
    x, t = draw(1, 3, 32, 64), 700
    abar = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)[t].item()
    eps = Published(small, 1)(x, torch.tensor([float(t)]))[:, :3]
    x0 = (x - (1 - abar) ** 0.5 * eps) / abar**0.5
    sigma = torch.tensor([(1 / abar - 1) ** 0.5])
    got = prior.denoise(x / abar**0.5, sigma)
    assert (got - x0.clamp(-1, 1)).abs().max() < 1e-4
    assert 0.01 < (x0.abs() < 1).float().mean() < 0.99


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_in_a_batch_is_itself(small, draw, dtype):
    prior = adm.load(small, {}, "small")
    prior.network.to(dtype)
    x, sigma = draw(3, 3, 32, 32), torch.tensor([0.02, 1.3, 60.0])
    x *= sigma[:, None, None, None]
    with torch.inference_mode(), left():
        together = prior.denoise(x, sigma)
        alone = torch.cat([prior.denoise(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    assert together.dtype == torch.float32 and together.abs().max() <= 1
    apart = (together - alone).abs().amax((1, 2, 3))  # rounding of the noise counts sigma times
    assert (apart / (1 + sigma)).max() < (1e-5 if dtype == torch.float32 else 0.02)


def test_official_noise_levels(prior):
    with safe_open(GOLDEN, "pt") as file:
        official = json.loads(file.metadata()["t"])
    assert prior.spec.multiple_of == 32 and prior.spec.native_size == 256
    sigmas = schedule_for(prior, SamplerOptions(steps=100)).sigmas[:-1].float()
    assert timestep_of(sigmas, prior.spec.sigmas).tolist() == official


def test_the_gradient_goes_through_the_network(prior, draw):
    """The pullback that DPS asks for, against a central difference of the denoiser."""
    x, v, u = draw(2, 3, 32, 32), draw(2, 3, 32, 32), draw(2, 3, 32, 32)
    sigma = torch.tensor([0.05, 0.2])

    def f(x):
        return prior.denoise(x, sigma)

    with torch.inference_mode(), left():
        pullback = torch.func.vjp(f, 0.5 * x)[1]
        difference = (f(0.5 * x + 1e-3 * v) - f(0.5 * x - 1e-3 * v)) / 2e-3
    assert ((pullback(u)[0] * v).sum() / (u * difference).sum()).item() == pytest.approx(1, 0.01)


def test_the_sampler_runs_with_dps(prior, draw):
    measurement = Measurement(0.5 * draw(3, 3, 8, 12), Downscale(4), 0.05)
    schedule = schedule_for(prior, SamplerOptions(steps=3))
    with torch.inference_mode(), left():
        steps = list(
            restore(prior, measurement, schedule, LikelihoodGradient(), per_sample_noise([1, 2, 3]))
        )
    assert [step.x0_hat.shape for step in steps] == [(3, 3, 32, 64)] * 3
    assert not torch.equal(steps[1].x0_y, steps[1].x0_hat)
