"""InvSR's noise predictor: parity with the official network, its files, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from undegrade.models import noise_predictor as module
from undegrade.models.pixel_predictor import PixelPredictor, PixelPredictorNetwork
from undegrade.models.predictors import load_noise_predictor
from undegrade.models.weights import UnsupportedWeightsError
from undegrade.pipelines.invsr.start_noise import StartNoise
from undegrade.pipelines.invsr.steps import TRAINED_STARTS

GOLDEN = Path(__file__).parent / "golden"
HEAD = 32  # of the small network; the published ones have 64
CASES = ["0", "1", "3", "10"]


@pytest.fixture(scope="module")
def golden():
    """(weights, numbers of the cases, their time indices)."""
    with safe_open(GOLDEN / "invsr_predictor.safetensors", "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        times = json.loads(file.metadata()["times"])
    weights = {k: v for k, v in tensors.items() if k.startswith(module.PREFIX)}
    return weights, {k: v for k, v in tensors.items() if k not in weights}, times


@pytest.fixture(scope="module")
def small(golden):
    return module.load(golden[0], {}, "small", HEAD)


def predicted(predictor, golden, case):
    """(mean, std, official mean, official std)."""
    _, numbers, times = golden
    picture = 2 * numbers[f"{case}.image01"] - 1
    with torch.inference_mode():
        index = torch.full((len(picture),), times[case])
        mean, std = predictor.predict_at(picture, index)
    return mean, std, numbers[f"{case}.mean"], (numbers[f"{case}.logvar"] / 2).exp()


@pytest.mark.parametrize("case", CASES)
def test_maps_are_the_official_ones(small, golden, case):
    mean, std, want_mean, want_std = predicted(small, golden, case)
    assert want_mean.std() > 0.1 and mean.dtype == std.dtype == torch.float32
    assert (mean - want_mean).abs().max() <= 1e-5
    assert (std - want_std).abs().max() <= 1e-5


def test_a_draw_is_the_official_one(small, golden):
    mean, std, _, _ = predicted(small, golden, "10")
    sample = mean + std * golden[1]["10.eps"]
    wanted = golden[1]["10.sample"]
    assert (sample - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_the_level_decides_the_time(small, golden):
    _, numbers, times = golden
    picture = 2 * numbers["0.image01"] - 1
    with torch.inference_mode():
        by_level = small.predict(picture, small.sigmas[[times["0"]]].float())
        other = small.predict(picture, small.sigmas[[99]].float())
    assert torch.equal(by_level[0], predicted(small, golden, "0")[0])
    assert (by_level[0] - other[0]).abs().max() > 1e-4


def test_levels_are_those_of_stable_diffusion(small):
    known = {250: 0.693205, 200: 0.569285, 150: 0.453819, 100: 0.341674, 50: 0.223003, 25: 0.151523}
    for timestep, sigma in known.items():
        assert small.sigmas[timestep - 1] == pytest.approx(sigma, rel=1e-5)
        near = torch.tensor([sigma, sigma * 1.0005])
        assert small.index_of(near).tolist() == [timestep - 1, timestep - 1]
    every = small.sigmas.float()
    assert torch.equal(small.index_of(every), torch.arange(1000))
    assert small.index_of(torch.tensor([1e-3, 99.0])).tolist() == [0, 999]
    assert small.trained_sigmas == pytest.approx([known[t] for t in TRAINED_STARTS], rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(golden, dtype):
    predictor = module.load(golden[0], {}, "half", HEAD)
    predictor.network.to(dtype)
    for case in ("0", "3"):
        mean, std, want_mean, want_std = predicted(predictor, golden, case)
        assert mean.dtype == std.dtype == torch.float32
        assert (mean - want_mean).abs().mean() < 2e-2
        assert (std - want_std).abs().mean() < 2e-2


def test_a_picture_of_a_batch_is_that_picture_alone(small, draw):
    pictures, levels = draw(3, 3, 32, 48).clamp(-1, 1), torch.tensor([0.69, 0.57, 0.34])
    kept = pictures.clone()
    with torch.inference_mode():
        together = small.predict(pictures, levels)
        alone = [small.predict(pictures[b : b + 1], levels[b : b + 1]) for b in range(3)]
    assert together[0].shape == together[1].shape == (3, 4, 16, 24)
    for maps, singles in zip(together, zip(*alone, strict=True), strict=True):
        assert (maps - torch.cat(singles)).abs().max() < 1e-5
    assert torch.equal(pictures, kept) and bool((together[1] > 0).all())


def test_attention_never_holds_every_pair_of_pixels(small, draw):
    """Memory of 128x128 tokens squared would be 2 GiB for the two heads."""
    with torch.inference_mode(), torch.profiler.profile(profile_memory=True) as profile:
        module.attention(64, HEAD)(draw(1, 64, 64, 64))
    most = max(event.cpu_memory_usage for event in profile.events())
    assert most < 16 * 64 * 64**2 * 4, "one map of 64 channels is 1 MiB"


# Files


def spread(tensors, prefix):
    return {prefix + key: value for key, value in tensors.items()}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_every_wrapper_opens(tmp_path, golden, small, monkeypatch, prefix, wrapped):
    monkeypatch.setattr(module.load, "__defaults__", (HEAD,))
    tensors = spread(golden[0], prefix)
    training = {"state_dict": tensors, "iters_start": 3, "log_step": {"train": 1}}
    torch.save(training if wrapped else tensors, tmp_path / "noise.pth")
    loaded = load_noise_predictor(tmp_path / "noise.pth")
    assert loaded.name == "noise.pth" and not loaded.network.training
    assert not any(p.requires_grad for p in loaded.network.parameters())
    wanted = small.network.state_dict()
    assert loaded.network.state_dict().keys() == wanted.keys()
    assert all(torch.equal(v, wanted[k]) for k, v in loaded.network.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_network_takes_the_asked_precision(tmp_path, golden, dtype):
    save_file(golden[0], tmp_path / "n.pth")
    loaded = load_noise_predictor(tmp_path / "n.pth", dtype)
    assert {p.dtype for p in loaded.network.parameters()} == {dtype}


def published():
    listing = json.loads((GOLDEN / "invsr_predictor_keys.json").read_text())
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in listing["keys"].items()}
    return tensors, listing["params"]


def test_every_tensor_of_the_published_files_has_its_place():
    tensors, parameters = published()
    mine = {key.removeprefix(module.PREFIX): value for key, value in tensors.items()}
    sizes = module.sizes_of(mine, "full", module.HEAD)
    with torch.device("meta"):
        network = module.NoisePredictorNetwork(sizes)
    assert module.detect(tensors) and sizes == module.Sizes()
    assert (len(tensors), sum(v.numel() for v in tensors.values())) == (164, parameters)
    state = network.state_dict()
    assert {k: v.shape for k, v in mine.items()} == {k: v.shape for k, v in state.items()}
    heads = {layer.heads for level in network.down_blocks for layer in level.attentions}
    assert heads == {4, 8} and network.mid_block.attentions[0].heads == 8


def changed(key, shape=None):
    """Another shape for one tensor, or without a shape, no such tensor."""

    def apply(tensors):
        kept = {k: v for k, v in tensors.items() if k != "encoder." + key}
        return kept if shape is None else kept | {"encoder." + key: torch.zeros(shape)}

    return apply


LPIPS = {"net.slice1.0.weight": torch.zeros(64, 4, 3, 3), "lin0.model.1.weight": torch.zeros(1, 64)}
WITHOUT_LEVEL = "down_blocks.1.resnets."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed("conv_out.weight", (4, 128, 3, 3)), "gives 4 channels, where .* 3 and gives 8"),
        (changed("conv_in.weight", (64, 6, 3, 3)), "takes 6 and gives 8 channels.*_v5_diftune.pth"),
        (lambda _: LPIPS, "of no noise predictor known here .*_v5.pth or"),
        (changed("mid_block.resnets.1.conv2.bias"), "1 missing .mid_block.resnets.1.conv2.bias"),
        (changed("mid_block.more.bias", (3,)), "1 unexpected .mid_block.more.bias"),
        (changed("down_blocks.2.resnets.0.conv1.weight", (9, 9, 3, 3)), "has 3 levels, .* has 2"),
        (changed("conv_in.weight", (64,)), "lacks a proper tensor encoder.conv_in.weight"),
        (changed("down_blocks.1.resnets.0.conv1.weight", (96, 64, 3, 3)), "heads of 64 channels"),
        (
            lambda tensors: {k: v for k, v in tensors.items() if WITHOUT_LEVEL not in k},
            "has 1 levels, where the noise predictor has 2",
        ),
    ],
)
def test_other_files_are_refused(tmp_path, golden, change, said):
    torch.save(change(golden[0]), tmp_path / "p.pth")
    with pytest.raises(UnsupportedWeightsError, match=said) as error:
        load_noise_predictor(tmp_path / "p.pth")
    assert str(error.value).startswith("p.pth ") and str(error.value).count(". ") == 0


def test_other_networks_of_a_training_run_are_left_out(golden):
    more = golden[0] | {"discriminator.weight": torch.zeros(3)}
    assert module.load(more, {}, "n", HEAD).network.state_dict().keys() == {
        key.removeprefix(module.PREFIX) for key in golden[0]
    }


def test_both_kinds_conform_and_are_told_apart(tmp_path, small):
    network = PixelPredictorNetwork((8, 16), 1, 8)
    save_file(network.state_dict(), tmp_path / "pixels.safetensors")
    pixels = load_noise_predictor(tmp_path / "pixels.safetensors")
    assert isinstance(pixels, PixelPredictor)
    assert isinstance(pixels, StartNoise) and isinstance(small, StartNoise)
