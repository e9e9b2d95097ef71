"""Latent folders that cannot be used, and the text encoder: what it gives, and its faults."""

import shutil
import sys

import pytest
import torch
from diffusers_folders import clip_encoder, edit, latent_folder

from undegrade.models import latent
from undegrade.models.latent import embed_texts, load_diffusers_prior
from undegrade.models.registry import load_pixel_prior
from undegrade.models.weights import UnsupportedWeightsError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latent") / "model"
    latent_folder(folder)
    return folder


@pytest.fixture
def encoder(monkeypatch):
    """Some numbers in the place of the text encoder's."""
    monkeypatch.setattr(latent, "embed_texts", lambda folder, texts: torch.ones(2, 8, 24))


def changed(part: str, **changes):
    return lambda folder: edit(folder / part / "config.json", **changes)


def without(part: str):
    return lambda folder: shutil.rmtree(folder / part)


def from_other_widths(folder):
    shutil.rmtree(folder)
    latent_folder(folder, cross_attention_dim=32)


def for_inpainting(folder):
    shutil.rmtree(folder)
    latent_folder(folder, in_channels=9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("vae"), "model has no vae/config.json"),
        (changed("vae", _class_name="VQModel"), "a VQModel where a AutoencoderKL is needed"),
        (changed("vae", latents_mean=[0, 0, 0, 0]), "a mean and deviation per channel"),
        (changed("unet", _class_name="Kandinsky3UNet"), "a Kandinsky3UNet where a UNet2DCondition"),
        (changed("unet", addition_embed_type="text_time"), "the embeddings of SDXL and its like"),
        (changed("unet", encoder_hid_dim_type="text_proj"), "another kind than CLIP's"),
        (changed("unet", time_cond_proj_dim=256), "a guidance scale as input"),
        (from_other_widths, "text embeddings of 24 numbers and a network that reads 32"),
        (for_inpainting, "a network of 9 channels in and 4 out on latents of 4"),
    ],
)
def test_folders_that_are_refused(tmp_path, whole, encoder, change, said):
    shutil.copytree(whole, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(UnsupportedWeightsError, match=said) as error:
        load_diffusers_prior(tmp_path / "model")
    assert str(error.value).endswith(".") and ". " not in str(error.value), "one sentence"


def test_other_refusals(tmp_path, whole):
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        load_diffusers_prior(tmp_path / "nothing")
    with pytest.raises(UnsupportedWeightsError, match="a UNet2DConditionModel where a UNet2DModel"):
        load_pixel_prior(whole)


# The text encoder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("text_encoder"), "model has no text_encoder/config.json"),
        (changed("text_encoder", architectures=["T5EncoderModel"]), "which is not CLIPTextModel"),
        (changed("text_encoder", architectures=None), r"the text encoder None, which is not"),
    ],
)
def test_text_encoders_that_are_refused(tmp_path, whole, change, said):
    shutil.copytree(whole, tmp_path / "model")
    change(tmp_path / "model")
    with pytest.raises(UnsupportedWeightsError, match=said):
        embed_texts(tmp_path / "model", ("",))


def test_without_transformers_one_sentence_says_so(whole, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"need the package transformers .* Prior From Guider"):
        embed_texts(whole, ("",))


def test_texts_are_embedded_as_the_pipeline_does(tmp_path):
    pytest.importorskip("transformers")
    latent_folder(tmp_path / "model")
    encoder, tokenizer = clip_encoder(tmp_path / "model")
    texts = ("", "a b c")
    got = embed_texts(tmp_path / "model", texts)
    ids = tokenizer(list(texts), padding="max_length", max_length=8, return_tensors="pt").input_ids
    assert ids.tolist() == [[0] + 7 * [1], [0, 2, 3, 4] + 4 * [1]]
    assert got.shape == (2, 8, 24) and not got.requires_grad
    assert torch.allclose(got, encoder(ids)[0], atol=1e-6)
    with pytest.raises(ValueError, match="has 7 tokens, but the model reads 6; shorten it: 'a b a"):
        embed_texts(tmp_path / "model", ("a b a b a b a",))


@pytest.mark.parametrize("fault", ["cut", "gone", "tokenizer", "shape"])
def test_broken_text_encoders(tmp_path, fault):
    pytest.importorskip("transformers")
    folder = tmp_path / "model"
    latent_folder(folder)
    clip_encoder(folder)
    weights = folder / "text_encoder" / "model.safetensors"
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[:3000])
    elif fault == "gone":
        weights.unlink()
    elif fault == "tokenizer":
        shutil.rmtree(folder / "tokenizer")
    else:
        edit(folder / "text_encoder" / "config.json", num_hidden_layers=3)
    with pytest.raises(
        UnsupportedWeightsError, match=r"model has a text_encoder.*download it"
    ) as e:
        embed_texts(folder, ("",))
    assert ". " not in str(e.value)
