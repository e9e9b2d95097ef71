"""Folders and files of diffusers' pixel networks that cannot be used, one sentence each."""

import shutil

import pytest
import torch
from diffusers_folders import edit, pixel_folder, pixel_network
from safetensors.torch import load_file, save_file

from undegrade.models.registry import load_pixel_prior
from undegrade.models.weights import UnsupportedWeightsError, blank

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "model"
    pixel_folder(folder)
    return folder


def broken(change):
    """A whole folder with one fault."""

    def make(folder, whole):
        shutil.copytree(whole, folder)
        change(folder)

    return make


def with_network(**changes):
    return lambda folder, whole: pixel_folder(folder, **changes)


def with_scheduler(**changes):
    return broken(lambda f: edit(f / "scheduler" / "scheduler_config.json", **changes))


def with_config(**changes):
    return broken(lambda f: edit(f / "unet" / "config.json", **changes))


def cut(folder):
    path = folder / "unet" / WEIGHTS
    path.write_bytes(path.read_bytes()[:20000])


def with_tensors(change):
    def edit_tensors(folder):
        path = folder / "unet" / WEIGHTS
        save_file(change(load_file(path)), path)

    return broken(edit_tensors)


def without_first(tensors):
    return {k: v for k, v in tensors.items() if k != "conv_in.bias"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (broken(lambda f: (f / "unet" / "config.json").unlink()), "has no unet/config.json"),
        (broken(lambda f: (f / "unet" / WEIGHTS).unlink()), "has no weights in unet"),
        (broken(lambda f: (f / "unet" / "config.json").write_text("{")), "is no JSON"),
        (broken(lambda f: (f / "unet" / "config.json").write_text("[]")), "no configuration"),
        (broken(cut), "not a whole safetensors or torch file"),
        (
            broken(lambda f: (f / "scheduler" / "scheduler_config.json").unlink()),
            "has no scheduler/scheduler_config.json",
        ),
        (with_scheduler(_class_name="FlowMatchEulerDiscreteScheduler"), "no diffusion with a tab"),
        (with_scheduler(_class_name="EDMEulerScheduler"), "no diffusion with a table of betas"),
        (with_scheduler(_class_name="NoSuchScheduler"), "that the installed diffusers does not"),
        (with_scheduler(_class_name="DDPMPipeline"), "that the installed diffusers does not know"),
        (with_scheduler(prediction_type="flow_prediction"), "'flow_prediction' predictions"),
        (with_scheduler(thresholding=True), "set thresholding to false"),
        (with_config(_class_name="UNet2DConditionModel"), "a UNet2DConditionModel where a UNet2DM"),
        (with_config(block_out_channels=[32]), "cannot build a UNet2DModel"),
        (with_config(sample_size=None), "does not say the size"),
        (with_config(num_class_embeds=10), "needs class labels"),
        (with_network(in_channels=1, out_channels=1), "has 1 channels in, 1 out"),
        (with_network(time_embedding_type="fourier"), "times that are fourier"),
        (with_tensors(without_first), r"1 missing \(conv_in.bias\)"),
        (with_tensors(lambda t: t | {"x": torch.zeros(3)}), r"1 unexpected \(x\)"),
        (with_tensors(lambda t: t | {"conv_in.bias": torch.zeros(3)}), "another shape"),
        (with_tensors(lambda t: t | {"conv_in.bias": t["conv_in.bias"].int()}), "not floating"),
    ],
)
def test_folders_that_are_refused(tmp_path, whole, make, said):
    make(tmp_path / "model", whole)
    with pytest.raises(UnsupportedWeightsError, match=said) as error:
        load_pixel_prior(tmp_path / "model")
    text = str(error.value)
    assert "model" in text and text.endswith(".") and ". " not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"down_blocks.1.attentions.0.query.weight": (64, 64)}, "from before diffusers 0.16"),
        ({"class_embedding.weight": (10, 128)}, "needs class labels"),
        ({"down_blocks.0.resnets.0.time_emb_proj.weight": (48, 128)}, "48 numbers from a time"),
        ({"down_blocks.1.resnets.0.conv1.weight": (40, 32, 3, 3)}, r"levels of \[32, 40\]"),
        ({"down_blocks.1.resnets.0.conv1.weight": None}, "lacks a proper tensor down_blocks.1"),
        ({"conv_in.bias": None}, r"1 missing \(conv_in.bias\)"),
        ({"conv_in.weight": (32, 4, 3, 3)}, "no architecture known here .* ffhq_10m.pt"),
        ({"mid_block.transformer_blocks.x": (1,)}, "no architecture known here"),
    ],
)
def test_files_that_are_refused(tmp_path, changes, said):
    tensors = pixel_network().state_dict()
    for key, shape in changes.items():
        tensors.pop(key, None)
        if shape:
            tensors[key] = torch.zeros(shape)
    save_file(tensors, tmp_path / "p.safetensors")
    with pytest.raises(UnsupportedWeightsError, match=said):
        load_pixel_prior(tmp_path / "p.safetensors")


def test_a_network_with_constants_of_its_own_is_refused():
    """They are in no weight file, and would be left unset."""

    class Constant(torch.nn.Linear):
        def __init__(self):
            super().__init__(2, 2)
            self.register_buffer("kernel", torch.ones(3), persistent=False)

    with pytest.raises(UnsupportedWeightsError, match=r"x has layers with constants .* \(kernel\)"):
        blank(Constant, "x")
