"""A VAE of ComfyUI as a codec: range, scale, derivatives and previews."""

import comfy_fakes as fakes
import pytest
import torch
from comfy_fakes import wrapped

from undegrade.nodes.comfyui import vae_codec
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.operators.decode import push


@pytest.fixture
def log(monkeypatch):
    return fakes.install(monkeypatch)


def test_codec_keeps_the_packs_range_and_the_models_scale(log, draw):
    codec = wrapped(log)[1].codec
    image = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    z = codec.encode(image)
    means = torch.nn.functional.avg_pool2d((image + 1) / 2, 4)
    assert torch.allclose(z[:, :3], 2 * means - 1, atol=1e-6)  # [0, 1], then the latent format
    with torch.inference_mode():
        decoded = codec.decode(z)
    attention = fakes.Attention()
    latent = torch.cat([means, means[:, :1]], 1)
    expected = 2 * attention(latent)[:, :3] - 1
    assert torch.allclose(decoded[..., ::4, ::4], expected, atol=1e-5)
    assert decoded.shape == image.shape
    wide = codec.decode(50 * z)
    assert wide.max() > 1  # not clipped: a clipped picture has no derivative


def test_forward_mode_leaves_the_autoencoder_as_it_was(log, draw):
    prior = wrapped(log)[1]
    codec, z, v = prior.codec, draw(2, 4, 3, 2), draw(2, 4, 3, 2)
    block = codec.vae.first_stage_model.attention
    with torch.inference_mode(), left():
        x, tangent = push(codec, z, v)
        assert torch.allclose(x, codec.decode(z), atol=1e-5)
    assert block.optimized_attention is fakes.fused_attention
    about = (codec.decode(z.double() + 1e-3 * v) - codec.decode(z.double() - 1e-3 * v)) / 2e-3
    assert (tangent - about).norm() < 1e-3 * about.norm()
    with pytest.raises(ZeroDivisionError), codec.plain_attention():
        assert block.optimized_attention is fakes.normal_attention
        raise ZeroDivisionError
    assert block.optimized_attention is fakes.fused_attention


def test_fused_attention_without_any_derivative_is_avoided(log, monkeypatch, draw):
    monkeypatch.setattr(
        vae_codec.comfy("comfy.model_management"), "xformers_enabled_vae", lambda: True
    )
    codec, used = wrapped(log)[1].codec, []
    block = codec.vae.first_stage_model.attention
    block.optimized_attention = lambda *_: used.append(1)
    codec.decode(draw(1, 4, 2, 2))
    assert not used


def test_preview_is_comfyuis_linear_map(log, draw):
    codec, z = wrapped(log)[1].codec, draw(2, 4, 3, 2)
    factors = torch.tensor(codec.latent_format.latent_rgb_factors)
    expected = (z.movedim(1, -1) @ factors).movedim(-1, 1)
    assert torch.allclose(codec.preview(z), expected, atol=1e-6)
    codec.latent_format.latent_rgb_factors_bias = [0.1, 0.0, -0.1]
    shifted = codec.preview(z) - expected
    assert torch.allclose(shifted[:, 0], torch.tensor(0.1), atol=1e-5)
    codec.latent_format.latent_rgb_factors = None
    assert codec.preview(z).shape == (2, 3, 3, 2)
