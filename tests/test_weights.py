"""Reading weight files: what is loaded, and what is refused and how it is said."""

import json
import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.registry import BUILT_IN, load_pixel_prior, networks_of
from undegrade.models.weights import UnsupportedWeightsError, read_tensors


def small_network() -> PixelNetwork:
    network = PixelNetwork((8, 16), blocks=1, embedding=8)
    generator = torch.Generator().manual_seed(3)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


@pytest.fixture
def tensors():
    return small_network().state_dict()


def test_built_in_prior_loads_and_knows_its_levels():
    prior = load_pixel_prior(BUILT_IN)
    assert isinstance(prior, PixelPrior)
    assert sum(p.numel() for p in networks_of(prior)[0].parameters()) == 5_316_972
    assert prior.spec.multiple_of == 16 and prior.spec.trained_factors == (1, 2, 4)
    assert not any(p.requires_grad for p in networks_of(prior)[0].parameters())


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "params"])
def test_torch_files_and_safetensors_give_the_same_network(tmp_path, tensors, wrap):
    save_file(tensors, tmp_path / "a.bin")  # the name's ending plays no part
    torch.save({wrap: tensors} if wrap else tensors, tmp_path / "b.safetensors")
    x, sigma = torch.linspace(-1, 1, 3 * 8 * 8).view(1, 3, 8, 8), torch.tensor([0.3])
    results = [load_pixel_prior(tmp_path / n).denoise(x, sigma) for n in ("a.bin", "b.safetensors")]
    assert torch.equal(*results)


def test_widths_are_read_from_the_shapes(tmp_path, tensors):
    save_file(tensors, tmp_path / "p.safetensors")
    prior = load_pixel_prior(tmp_path / "p.safetensors")
    assert prior.spec.multiple_of == 4
    assert set(networks_of(prior)[0].state_dict()) == set(tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_take_and_give_float32(dtype):
    prior = load_pixel_prior(BUILT_IN, dtype)
    x = torch.zeros(1, 3, 16, 16)
    out = prior.denoise(x, torch.tensor([0.5]))
    assert out.dtype == torch.float32 and torch.isfinite(out).all()


def test_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weight file .*nothing.pt"):
        read_tensors(tmp_path / "nothing.pt")


@pytest.mark.parametrize("kind", ["safetensors", "torch"])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.6])
def test_truncated_files(tmp_path, tensors, kind, keep):
    path = tmp_path / "cut"
    save_file(tensors, path) if kind == "safetensors" else torch.save(tensors, path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(UnsupportedWeightsError, match="download it again"):
        read_tensors(path)


def test_text_is_no_weight_file(tmp_path):
    path = tmp_path / "readme.safetensors"
    path.write_text("<!doctype html> not found " * 20)
    with pytest.raises(UnsupportedWeightsError, match="not a whole safetensors or torch file"):
        read_tensors(path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("raw", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, raw):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil())) if raw else torch.save({"x": Evil()}, path)
    with pytest.raises(UnsupportedWeightsError, match="could run code"):
        read_tensors(path)
    assert not (tmp_path / "evil").exists()


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path, tensors):
    del tensors["down.0.bias"]
    tensors["extra"] = torch.zeros(1)
    tensors["out.bias"] = torch.zeros(5)
    save_file(tensors, tmp_path / "p.safetensors")
    with pytest.raises(UnsupportedWeightsError) as error:
        load_pixel_prior(tmp_path / "p.safetensors")
    for part in ("1 missing (down.0.bias)", "1 unexpected (extra)", "another shape (out.bias)"):
        assert part in str(error.value)


def test_a_foreign_network_is_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(1)}, tmp_path / "p.safetensors")
    with pytest.raises(UnsupportedWeightsError, match="no architecture known here"):
        load_pixel_prior(tmp_path / "p.safetensors")


def test_a_file_without_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "p.pt")
    with pytest.raises(UnsupportedWeightsError, match="no named tensors"):
        read_tensors(tmp_path / "p.pt")


def test_the_built_in_prior_says_how_it_was_made():
    _, said = read_tensors(BUILT_IN)
    stages = json.loads(said["stages"])
    assert said["license"] == "MIT" and int(said["samples"]) == sum(s["samples"] for s in stages)
    assert all("command" in stage and "data" in stage for stage in stages)
    assert "171 photographs of training/photographs.csv" in said["data"]
    assert not re.search(r"(/[a-z]+){2}", said["command"].replace("training/__main__", ""))
    total = sum(file.stat().st_size for file in BUILT_IN.parent.iterdir())
    assert total < 30e6, "what ships stays small"
