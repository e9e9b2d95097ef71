"""StableSR's module: the official code's numbers, the published layouts, and what goes wrong.

The weights are random but reproducible (`stablesr_modules`); tests/golden/stablesr holds what the
official encoder and modulation gave for them, every 37th number.
"""

import os
import pickle
import sys
import types
from pathlib import Path

import pytest
import stablesr_modules
import torch
from safetensors.torch import load_file, save_file

from undegrade.models.stablesr import BLOCKS, level_of, load, read_module
from undegrade.models.weights import UnsupportedWeightsError

GOLDEN = Path(__file__).parent / "golden" / "stablesr" / "maps_and_modulation.safetensors"


@pytest.fixture(scope="module")
def tensors():
    return stablesr_modules.tensors()


@pytest.fixture(scope="module")
def network(tensors):
    return load(tensors, "random.ckpt")


def sample(values):
    return values.flatten(1)[:, ::37]


def test_maps_and_modulation_are_the_official_codes(network):
    generator, golden = torch.Generator().manual_seed(5), load_file(GOLDEN)
    z, t = torch.randn(3, 4, 16, 24, generator=generator), torch.tensor([0.0, 261.0, 999.0])
    with torch.inference_mode():
        maps = network.encoder(z, t)
        for level, m in enumerate(maps):
            assert (sample(m) - golden[f"map.{level}"]).abs().max() < 1e-4
        for block in ("input_blocks.5.0", "middle_block.2", "output_blocks.11.0"):
            size = maps[level_of(block)].shape[-2:]
            h = torch.randn(3, network.channels_of(block), *size, generator=generator)
            error = sample(network.modulate(block, h, maps)) - golden[block]
            assert error.abs().max() < 1e-4 and golden[block].abs().max() > 1


def test_the_published_layout_has_376_tensors_and_its_sizes():
    shapes = stablesr_modules.shapes(unet=320, width=256)
    numbers = {k: torch.Size(v).numel() for k, v in shapes.items()}
    encoder = [n for k, n in numbers.items() if k.startswith("structcond")]
    assert (len(shapes), len(encoder)) == (376, 200)
    assert (sum(encoder), sum(numbers.values())) == (52_494_080, 52_494_080 + 53_020_160)
    blank = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    from undegrade.models import struct_encoder

    encoder = {k.split(".", 1)[1]: v for k, v in blank.items() if k.startswith("structcond")}
    assert struct_encoder.sizes_of(encoder, "x") == struct_encoder.Sizes()


def test_levels_go_down_and_up_again():
    assert [level_of(block) for block in BLOCKS] == [
        *(0, 0, 1, 1, 2, 2, 3, 3),
        *(3, 3),
        *(3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0),
    ]
    assert {b: level_of(b) for b in BLOCKS} == stablesr_modules.SPADES


def test_every_sample_has_its_own_timestep_and_any_size(network):
    z = torch.randn(3, 4, 37, 31, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3.0, 500.0, 999.0])
    with torch.inference_mode():
        together = network.encoder(z, t)
        for k in range(3):
            alone = network.encoder(z[k : k + 1], t[k : k + 1])
            for m, one in zip(together, alone, strict=True):
                assert (m[k : k + 1] - one).abs().max() < 1e-4
        shifted = network.encoder(z[:1], t[1:2])
    assert [tuple(m.shape[-2:]) for m in together] == [(37, 31), (19, 16), (10, 8), (5, 4)]
    assert (shifted[0] - together[0][:1]).abs().max() > 1e-2


def others():
    return {
        "model.diffusion_model.input_blocks.1.0.in_layers.0.weight": torch.ones(32),
        "first_stage_model.decoder.conv_in.weight": torch.ones(8, 4, 3, 3),
        "model_ema.decay": torch.ones(()),
    }


@pytest.mark.parametrize("kind", ["webui", "full", "safetensors", "half"])
def test_published_layouts_load(kind, tensors, network, tmp_path):
    path = tmp_path / f"{kind}.ckpt"
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "half":
        torch.save({k: v.half() for k, v in tensors.items()}, path)
    else:
        torch.save(tensors if kind == "webui" else {"state_dict": tensors | others()}, path)
    read = read_module(path)
    tolerance = 1e-3 if kind == "half" else 0.0
    for (key, a), b in zip(read.state_dict().items(), network.state_dict().values(), strict=True):
        assert (a - b).abs().max() <= tolerance * (1 + b.abs().max()), key
        assert a.dtype == torch.float32 and not a.requires_grad


@pytest.fixture
def lightning(monkeypatch):
    """Pretends that pytorch_lightning is there while a file is written; gives its callback."""
    names = ["pytorch_lightning", "pytorch_lightning.callbacks"]
    names.append("pytorch_lightning.callbacks.model_checkpoint")
    for name in names:
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name in ("ModelCheckpoint", "Trainer"):
        setattr(sys.modules[names[-1]], name, type(name, (), {"__module__": names[-1]}))
    return sys.modules[names[-1]]


def test_the_callback_that_published_files_name_is_let_pass(tensors, tmp_path, lightning):
    path = tmp_path / "full.ckpt"
    callbacks = {lightning.ModelCheckpoint: {"best_model_score": None}}
    torch.save({"state_dict": tensors, "callbacks": callbacks}, path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert read_module(path).channels_of("middle_block.0") == 128
    with pytest.raises(pickle.UnpicklingError):  # let pass here only
        torch.load(path, weights_only=True)


class Evil:
    """A pickle that runs code."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


def test_another_class_and_code_are_refused(tensors, tmp_path, lightning):
    path, target = tmp_path / "full.ckpt", tmp_path / "ran"
    for other in (lightning.Trainer, Evil(target)):
        torch.save({"state_dict": tensors, "other": other}, path)
        with pytest.raises(UnsupportedWeightsError, match="could run code"):
            read_module(path)
    assert not target.exists()


def without(tensors, part):
    return {key: value for key, value in tensors.items() if part not in key}


@pytest.mark.parametrize(
    ("said", "change"),
    [
        ("no StableSR module", lambda t: without(t, "spade")),
        ("no StableSR module", lambda t: without(t, "structcond")),
        ("lacks the modulation of 1 blocks", lambda t: without(t, "middle_block.2.spade")),
        ("lacks tensors of StableSR's structure encoder", lambda t: without(t, "time_embed")),
        ("missing .*qkv|missing .*to_q", lambda t: without(t, "input_blocks.4.1.qkv.bias")),
        ("3 maps", lambda t: without(t, "fea_tran.3")),
        (
            "of another shape",
            lambda t: t | {"structcond_stage_model.time_embed.2.bias": torch.ones(7)},
        ),
        ("unexpected", lambda t: t | {"structcond_stage_model.more.weight": torch.ones(7)}),
    ],
)
def test_what_does_not_fit_is_named(said, change, tensors):
    with pytest.raises(UnsupportedWeightsError, match=said):
        load(change(tensors), "odd.ckpt")
