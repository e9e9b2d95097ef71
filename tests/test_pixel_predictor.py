"""The small noise predictor: what it is, its sizes, its files, and what the shipped one gains."""

import json

import pytest
import torch
from torch.nn.functional import interpolate

from undegrade.models import pixel, pixel_predictor
from undegrade.models.pixel_predictor import PixelPredictor, PixelPredictorNetwork
from undegrade.models.predictors import BUILT_IN_PREDICTOR, load_noise_predictor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import UnsupportedWeightsError, read_tensors
from undegrade.pipelines.degradation.real_world import RealWorldDegradation, degrade
from undegrade.pipelines.invsr.start_noise import StartNoise
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise


def levels(*values: float) -> torch.Tensor:
    return torch.tensor(values)


@pytest.fixture(scope="module")
def small() -> PixelPredictor:
    """Random weights, the last layer too, so that nothing is zero."""
    network = PixelPredictorNetwork((16, 24, 32), 1, 16)
    g = torch.Generator().manual_seed(0)
    for p in network.parameters():
        p.data = 0.1 * torch.randn(p.shape, generator=g)
    return PixelPredictor(network.requires_grad_(False))


@pytest.fixture(scope="module")
def shipped():
    return load_noise_predictor(BUILT_IN_PREDICTOR)


def test_it_is_a_start_noise(small):
    assert isinstance(small, StartNoise)
    assert (small.scale, small.factor) == (4, 1)
    assert list(small.trained_sigmas) == sorted(small.trained_sigmas, reverse=True)


@pytest.mark.parametrize("size", [(37, 31), (16, 16), (1, 1), (5, 64)])
def test_any_size(small, draw, size):
    lr = draw(2, 3, *size).clamp(-1, 1)
    before = lr.clone()
    with torch.inference_mode():
        mean, std = small.predict(lr, levels(0.3, 0.6))
    assert mean.shape == std.shape == (2, 3, 4 * size[0], 4 * size[1])
    assert mean.dtype == std.dtype == torch.float32 and torch.equal(lr, before)
    assert mean.isfinite().all() and (std > 0).all()


def test_padding_does_not_reach_far(small, draw):
    """A picture that needs padding sees the same as the one it is cut from, but at its end."""
    lr = draw(1, 3, 64, 64)
    whole, _ = small.predict(lr, levels(0.3))
    part, _ = small.predict(lr[..., :61, :63], levels(0.3))
    assert torch.allclose(part[..., :96, :96], whole[..., :96, :96], atol=1e-5)


def test_a_sample_alone_in_a_batch(small, draw):
    lr, sigma = draw(3, 3, 20, 24), levels(0.2, 0.4, 0.6)
    together = small.predict(lr, sigma)
    for b in range(3):
        alone = small.predict(lr[b : b + 1], sigma[b : b + 1])
        for one, many in zip(alone, together, strict=True):
            assert (one[0] - many[b]).abs().max() < 1e-4
    other = small.predict(lr, levels(0.2, 0.4, 0.3))
    assert (other[0][2] - together[0][2]).abs().max() > 1e-3, "the level plays no part"


def test_it_shifts_with_the_picture(small, draw):
    """Four pixels of the small picture are sixteen of the large one."""
    lr = draw(1, 3, 96, 96)
    still, _ = small.predict(lr, levels(0.3))
    moved, _ = small.predict(lr[..., 4:, :], levels(0.3))
    assert torch.allclose(moved[..., 160:200, :], still[..., 176:216, :], atol=1e-4)


def test_a_file_gives_back_the_network(small, draw):
    tensors = small.network.state_dict()
    assert pixel_predictor.detect(tensors) and not pixel.detect(tensors)
    loaded = pixel_predictor.load(tensors, {"sigmas": "0.5, 0.2"}, "x")
    assert loaded.trained_sigmas == (0.5, 0.2)
    lr = draw(1, 3, 12, 12)
    for a, b in zip(small.predict(lr, levels(0.3)), loaded.predict(lr, levels(0.3)), strict=True):
        assert torch.allclose(a, b, atol=1e-5)


def test_other_files_are_refused(small):
    assert not pixel_predictor.detect(read_tensors(BUILT_IN)[0])
    tensors = dict(small.network.state_dict())
    del tensors["mid.0.b.weight"]
    with pytest.raises(UnsupportedWeightsError, match=r"1 missing \(mid\.0\.b\.weight\)"):
        pixel_predictor.load(tensors, {}, "x.safetensors")


# The shipped file


def test_metadata_says_how_it_was_made():
    _, said = read_tensors(BUILT_IN_PREDICTOR)
    assert said["license"] == "MIT" and said["prior"] == BUILT_IN.name
    assert said["command"].startswith("python training noise_predictor")
    assert "400 photographs of training/photographs.csv" in said["data"]
    assert "public domain, CC0 or CC BY" in said["photographs"] and "0.1" in said["mixture"]
    assert sum(int(n) for n in said["samples"].split(" + ")) > 400_000
    assert json.loads(said["scores"])
    assert not any(mark in text for text in said.values() for mark in ("/tmp", "/home", "/root"))


@pytest.mark.parametrize(
    ("sigma", "least", "over_control"),
    [(0.15, 0.95, 1.0), (0.25, 1.0, 1.2), (0.4, 1.0, 1.6), (0.7, 0.95, 2.2)],
)
def test_it_gains_over_bicubic_on_a_photograph(shipped, sigma, least, over_control):
    """In dB, the mean of four degradations; the control starts from noise nobody predicted."""
    data = pytest.importorskip("skimage.data")
    x = torch.from_numpy(data.astronaut()[64:192, 160:288]).permute(2, 0, 1)[None] / 127.5 - 1
    x = x.expand(4, -1, -1, -1)
    lr = degrade(x, RealWorldDegradation("mild"), range(4))
    z, level = interpolate(lr, scale_factor=4, mode="bicubic"), torch.full((4,), sigma)
    prior = load_pixel_prior(BUILT_IN)
    with torch.inference_mode():
        mean, std = shipped.predict(lr, level)
        n = per_sample_noise(range(4))(mean)
        x0 = prior.denoise(z + sigma * (mean + std * n), level)
        control = prior.denoise(z + sigma * n, level)
    gain = float((psnr(x0, x) - psnr(z, x)).mean())
    assert gain > least and gain - float((psnr(control, x) - psnr(z, x)).mean()) > over_control
