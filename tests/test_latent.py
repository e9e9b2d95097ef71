"""Latent diffusion from a diffusers folder, against diffusers' own networks and scheduler."""

import shutil

import pytest
import torch
from diffusers_folders import edit, latent_folder, stable_diffusion_noise
from torch.nn import functional

from undegrade.models import latent
from undegrade.models.codec import Codec
from undegrade.models.latent import AutoencoderCodec, load_diffusers_prior
from undegrade.models.noise_table import sigmas_of
from undegrade.models.prior import Prior
from undegrade.models.registry import networks_of
from undegrade.nodes.comfyui.wall import left


def embedding(texts: tuple[str, ...]) -> torch.Tensor:
    """Some numbers that depend on the text, in the place of a text encoder's."""
    seeds = [sum(text.encode()) for text in texts]
    draws = [torch.randn(8, 24, generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(draws)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, its UNet, its autoencoder)."""
    folder = tmp_path_factory.mktemp("latent") / "model"
    return folder, *latent_folder(folder)


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    monkeypatch.setattr(latent, "embed_texts", lambda folder, texts: embedding(texts))


@pytest.fixture
def prior(whole):
    return load_diffusers_prior(whole[0], "a cat")


@pytest.fixture
def codec(prior) -> AutoencoderCodec:
    return prior.codec


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("guidance", [1.0, 4.5])
def test_x0_hat_is_diffusers_own(tmp_path, whole, draw, prediction, guidance):
    scheduler = stable_diffusion_noise(prediction_type=prediction)
    shutil.copytree(whole[0], tmp_path / "model")
    scheduler.save_pretrained(tmp_path / "model" / "scheduler")
    prior = load_diffusers_prior(tmp_path / "model", "a cat", "blurry", guidance)
    negative, told = embedding(("blurry", "a cat")).split(1)
    xs, sigmas, wanted = [], [], []
    for t in (0, 200, 700):
        z, n = draw(1, 4, 8, 12), draw(1, 4, 8, 12)
        noisy = scheduler.add_noise(z, n, torch.tensor([t]))
        with torch.inference_mode(), left():
            f, without = (whole[1](noisy, t, text).sample for text in (told, negative))
        f = f if guidance == 1 else without + guidance * (f - without)
        abar = scheduler.alphas_cumprod[t].double()
        xs.append(noisy / abar.sqrt().float())
        sigmas.append(sigmas_of(abar[None]).float())
        wanted.append(scheduler.step(f, t, noisy).pred_original_sample)
    x, sigma, want = (torch.cat(parts) for parts in (xs, sigmas, wanted))
    with torch.inference_mode(), left():
        got = prior.denoise(x, sigma)
    assert want.abs().max() > 1 and got.dtype == torch.float32
    assert ((got - want).abs().amax((1, 2, 3)) / want.abs().amax((1, 2, 3))).max() < 1e-5


def test_the_prompt_and_the_guidance_count(whole, draw):
    x, sigma = draw(1, 4, 8, 8), torch.tensor([2.0])
    settings = [("a",), ("b",), ("a", "b", 2.0), ("a", "c", 2.0), ("a", "b", 3.0)]
    found = [load_diffusers_prior(whole[0], *s).denoise(x, sigma) for s in settings]
    assert all((f - g).abs().max() > 1e-3 for i, f in enumerate(found) for g in found[:i])
    unused = load_diffusers_prior(whole[0], "a", "b", 1.0)
    assert torch.equal(unused.denoise(x, sigma), found[0])


def test_what_a_sampler_is_told(prior, codec):
    spec = prior.spec
    abar = stable_diffusion_noise().alphas_cumprod
    assert isinstance(prior, Prior) and isinstance(codec, Codec)
    assert (spec.channels, spec.multiple_of, spec.native_size, codec.factor) == (4, 2, 128, 8)
    assert torch.equal(spec.sigmas, sigmas_of(abar)) and spec.trained_factors == (1,)
    assert spec.sigma_max == pytest.approx(14.6146, abs=1e-3), "Stable Diffusion's"
    assert networks_of(prior) == [prior.network, codec.network]
    assert not any(p.requires_grad for n in networks_of(prior) for p in n.parameters())


def test_the_codec_is_the_mean_of_the_encoder_and_the_decoder(whole, codec, draw):
    image, z = draw(2, 3, 24, 40).tanh(), draw(2, 4, 3, 5)
    with torch.inference_mode(), left():
        mean = whole[2].encode(image).latent_dist.mean
        assert torch.allclose(codec.encode(image), 0.18215 * mean, atol=1e-6)
        decoded = whole[2].decode(z / 0.18215).sample
        assert torch.allclose(codec.decode(z), decoded, atol=1e-5)
    assert decoded.shape == (2, 3, 24, 40)
    with pytest.raises(ValueError, match="39x24 pixels, but the autoencoder takes multiples of 8"):
        codec.encode(image[..., :39])


def test_shift_and_scale(tmp_path, whole, draw):
    shutil.copytree(whole[0], tmp_path / "model")
    config = tmp_path / "model" / "vae" / "config.json"
    edit(config, shift_factor=0.3, scaling_factor=0.5)
    codec = load_diffusers_prior(tmp_path / "model").codec
    image, z = draw(1, 3, 16, 16).tanh(), draw(1, 4, 2, 2)
    mean = whole[2].encode(image).latent_dist.mean
    assert torch.allclose(codec.encode(image), (mean - 0.3) * 0.5, atol=1e-6)
    assert torch.allclose(codec.decode(z), whole[2].decode(z / 0.5 + 0.3).sample, atol=1e-5)
    back = codec.process_latent_in(codec.process_latent_out(z))
    assert torch.allclose(back, z, atol=1e-6)
    small = functional.avg_pool2d(codec.decode(z), 8)
    assert torch.equal(codec.preview(z), small), "no mixture is known for these latents"


def test_a_preview_mixes_the_channels(codec):
    grey = codec.preview(torch.tensor([1.0, 0, 0, 0]).view(1, 4, 1, 1).expand(2, 4, 3, 5))
    assert grey.shape == (2, 3, 3, 5)
    assert torch.equal(grey[1, :, 2, 4], torch.tensor([0.3512, 0.2297, 0.3227]))


def test_derivatives_of_prior_and_decoder(prior, codec, draw):
    """Pullbacks and, with plain attention, pushforwards against central differences."""
    before = {type(p).__name__ for p in codec.network.attn_processors.values()}
    sigma = torch.tensor([0.3, 1.0])
    for f, channels in ((lambda x: prior.denoise(x, sigma), 4), (codec.decode, 3)):
        x, v = draw(2, 4, 4, 4), draw(2, 4, 4, 4)
        with torch.inference_mode(), left():
            out, pull = torch.func.vjp(f, x)
            u = draw(*out.shape)
            assert out.shape[1] == channels
            slope = (u * (f(x + 2e-3 * v) - f(x - 2e-3 * v))).sum() / 4e-3
            assert ((pull(u)[0] * v).sum() / slope).item() == pytest.approx(1, abs=0.02)
            if channels == 3:
                with codec.plain_attention():
                    plain, push = torch.func.jvp(f, (x,), (v,))
                assert torch.allclose(plain, out, atol=1e-4)
                assert ((u * push).sum() / slope).item() == pytest.approx(1, abs=0.02)
    with pytest.raises(ZeroDivisionError), codec.plain_attention():
        _ = 1 / 0
    assert {type(p).__name__ for p in codec.network.attn_processors.values()} == before


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_sample_in_a_batch_is_itself(whole, draw, guidance):
    prior = load_diffusers_prior(whole[0], "a", "b", guidance)
    x, sigma = draw(3, 4, 6, 4), torch.tensor([0.05, 1.0, 9.0])
    with torch.inference_mode(), left():
        together = prior.denoise(x, sigma)
        alone = torch.cat([prior.denoise(x[i : i + 1], sigma[i : i + 1]) for i in range(3)])
    assert (together - alone).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_precision_is_the_networks_and_not_the_autoencoders(whole, draw, dtype):
    half = load_diffusers_prior(whole[0], "a", "b", 2.0, dtype)
    network, autoencoder = networks_of(half)
    assert {t.dtype for t in network.state_dict().values()} == {dtype}
    assert {t.dtype for t in autoencoder.state_dict().values()} == {torch.float32}
    x, sigma = draw(1, 4, 8, 8), torch.tensor([0.5])
    with torch.inference_mode(), left():
        got = half.denoise(x, sigma)
        want = load_diffusers_prior(whole[0], "a", "b", 2.0).denoise(x, sigma)
    assert got.dtype == torch.float32 and 0 < (got - want).abs().max() < 0.2
