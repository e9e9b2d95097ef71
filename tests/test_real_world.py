"""The second-order chain: its parts in closed form, its sizes, its order of strengths, its node."""

import io
import math
from random import Random

import numpy as np
import pytest
import torch
from node_calls import call, photo
from PIL import Image

from undegrade.nodes.comfyui import host
from undegrade.pipelines.degradation import random_blur, real_world
from undegrade.pipelines.degradation.random_blur import blur_kernel, sinc_kernel
from undegrade.pipelines.degradation.real_world import CHAINS, RealWorldDegradation, degrade
from undegrade.pipelines.metrics import psnr


def pixels(batch=3, height=37, width=31) -> torch.Tensor:
    """Pictures with structure, (B, 3, H, W) in [-1, 1]."""
    x = photo(height, width, batch=batch).permute(0, 3, 1, 2) * 2 - 1
    return (x + 0.3 * torch.sin(torch.arange(width) * 1.3)).clamp(-1, 1).contiguous()


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


# Parts


@pytest.mark.parametrize("name", CHAINS)
def test_kernels_keep_brightness_and_have_odd_sides(name):
    stages = [s for s in (CHAINS[name].first, CHAINS[name].second) if s]
    for known in stages:
        sides = set()
        for seed in range(60):
            k = blur_kernel(known.kernel, known.deviation, known.sinc, Random(seed))
            assert k.shape[0] == k.shape[1] and abs(float(k.sum()) - 1) < 1e-5
            sides.add(k.shape[0])
        assert min(sides) == 7 and max(sides) == known.kernel and all(s % 2 for s in sides)


def test_a_gaussian_kernel_has_the_deviation_that_was_drawn(monkeypatch):
    monkeypatch.setattr(random_blur, "FORM_ODDS", (1, 0, 0, 0, 0, 0))
    kernels = (blur_kernel(21, (1.3, 1.3), 0.0, Random(seed)) for seed in range(99))
    k = next(k for k in kernels if len(k) > 13)
    y, x = random_blur.centred(len(k))
    assert float((k * x**2).sum()) == pytest.approx(1.3**2, rel=1e-3)
    assert float((k * y**2).sum()) == pytest.approx(1.3**2, rel=1e-3)
    assert abs(float((k * x * y).sum())) < 1e-6


def test_the_sinc_passes_below_its_cutoff_and_stops_above():
    side, cutoff = 101, math.pi / 2
    k = sinc_kernel(side, cutoff)
    response = torch.fft.fft2(k.double()).abs()
    w = 2 * math.pi * torch.fft.fftfreq(side, dtype=torch.float64)
    radius = (w[:, None] ** 2 + w[None] ** 2).sqrt()
    assert (response[radius < 0.8 * cutoff] - 1).abs().max() < 0.1
    assert response[radius > 1.2 * cutoff].max() < 0.1


@pytest.mark.parametrize("grey", [True, False])
def test_noise_has_the_variance_it_says(grey):
    flat = torch.full((1, 3, 200, 200), 0.5)
    n = real_world.gaussian_noise(flat, 0.1, grey, generator()) - flat
    assert float(n.std()) == pytest.approx(0.1, rel=0.02)
    assert torch.equal(n[:, 0], n[:, 1]) == grey
    steps = torch.linspace(0, 1, 256).repeat(400, 1).expand(1, 3, -1, -1)  # 256 values: v = 256
    n = real_world.poisson_noise(steps, 0.7, grey, generator()) - steps
    for column in (32, 128, 255):
        wanted = 0.7 * math.sqrt(column / 255 / 256)  # scale sqrt(p / v)
        assert float(n[..., column].std()) == pytest.approx(wanted, rel=0.08)
    assert torch.equal(n[:, 0], n[:, 1]) == grey


def test_jpeg_is_libjpegs():
    x = (pixels(1) + 1) / 2
    file, planes = io.BytesIO(), (x[0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(planes).save(file, "JPEG", quality=40, subsampling="4:2:0")
    wanted = np.array(Image.open(file))
    got = (real_world.jpeg(x, 40)[0] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(got, wanted)


def test_sizes_are_drawn_from_the_published_interval(monkeypatch):
    sizes = []
    monkeypatch.setattr(real_world, "jpeg", lambda x, quality: x)
    monkeypatch.setattr(real_world, "resize", lambda x, size, random: sizes.append(size) or x)
    x, first = torch.zeros(1, 3, 8, 8), CHAINS["InvSR"].first
    for seed in range(400):
        real_world.stage(x, first, (1000, 2000), Random(seed), generator())
    heights = [height for height, _ in sizes]
    assert all(abs(width - 2 * height) <= 1 for height, width in sizes)
    assert 150 <= min(heights) < 170 and 1480 < max(heights) <= 1500
    shares = [np.mean([h > 1000 for h in heights]), np.mean([h < 1000 for h in heights])]
    assert np.allclose(shares, (0.2, 0.7), atol=0.06), "up, down"


# The chain


@pytest.mark.parametrize("size", [(37, 31), (64, 48), (8, 8), (1, 1), (3, 50)])
@pytest.mark.parametrize("scale", [1, 3, 4])
def test_any_size(size, scale):
    x = pixels(2)[..., : size[0], : size[1]] if size[1] < 32 else pixels(2, *size)
    before = x.clone()
    with torch.inference_mode():
        y = degrade(x, RealWorldDegradation("Real-ESRGAN", scale), [1, 2])
    assert y.shape == (2, 3, -(-size[0] // scale), -(-size[1] // scale))
    assert y.dtype == torch.float32 and y.device.type == "cpu" and torch.equal(x, before)
    eight_bit = (y + 1) * 127.5
    assert y.min() >= -1 and y.max() <= 1 and (eight_bit - eight_bit.round()).abs().max() < 1e-4


@pytest.mark.parametrize("name", CHAINS)
def test_a_sample_alone_and_in_another_order(name):
    x, options = pixels(), RealWorldDegradation(name)
    together = degrade(x, options, [7, 8, 9])
    state = torch.get_rng_state()
    turned = degrade(x[[2, 0, 1]], options, [9, 7, 8])
    assert torch.equal(turned, together[[2, 0, 1]])
    assert torch.equal(degrade(x[1:2], options, [8]), together[1:2])
    assert not torch.equal(degrade(x[1:2], options, [10]), together[1:2])
    assert torch.equal(torch.get_rng_state(), state), "the global generator was used"


def test_strengths_are_ordered():
    data = pytest.importorskip("skimage.data")
    x = torch.from_numpy(data.astronaut()[:256, 100:356]).permute(2, 0, 1)[None] / 127.5 - 1
    means = []
    for name in CHAINS:
        y = degrade(x.expand(24, -1, -1, -1), RealWorldDegradation(name), list(range(24)))
        large = torch.nn.functional.interpolate(y, scale_factor=4, mode="bicubic")
        means.append(float(psnr(large, x).mean()))
    assert means == sorted(means, reverse=True)
    assert means[0] > 21 and means[-1] < means[0] - 2


def test_scale_one_keeps_the_place_of_things():
    """A dot stays where it was: nothing in the chain shifts the picture."""
    x = torch.full((1, 3, 64, 64), -1.0)
    x[..., 24:40, 40:56] = 1
    for seed in range(12):
        y = degrade(x, RealWorldDegradation("mild", 1), [seed])
        inside = (y.mean(1)[0] > 0).nonzero().float().mean(0)
        assert (inside - torch.tensor([31.5, 47.5])).abs().max() < 0.4


@pytest.mark.parametrize(
    ("image", "seeds", "said"),
    [
        (torch.zeros(1, 1, 8, 8), [0], r"shape \(1, 1, 8, 8\) came; give \(B, 3, H, W\)"),
        (torch.zeros(2, 3, 8, 8), [0], "seeds and pictures are 1 and 2"),
        (torch.full((1, 3, 8, 8), math.nan), [0], "NaN or infinite"),
        (torch.zeros(1, 3, 1, 50_000), [0], "cut it into parts"),
    ],
)
def test_refusals(image, seeds, said):
    with pytest.raises(ValueError, match=said):
        degrade(image, RealWorldDegradation(), seeds)


@pytest.mark.parametrize(
    ("given", "said"), [({"strength": "huge"}, "choose one"), ({"scale": 0}, r"in \[1, 16\]")]
)
def test_options_are_checked(given, said):
    with pytest.raises(ValueError, match=said):
        RealWorldDegradation(**given)


# The node


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_node(channels):
    image = photo(37, 31, channels if channels > 1 else 3, batch=2)[..., :channels]
    small = call("UndegradeRealWorldDegradation", image=image, seed=5)[0]
    assert small.shape == (2, 10, 8, channels) and small.dtype == torch.float32
    again = call("UndegradeRealWorldDegradation", image=image[1:], seed=6)[0]
    assert torch.equal(again[..., :3], small[1:, ..., :3])


def test_node_stops_when_asked(monkeypatch):
    class StopError(Exception):
        pass

    def stop():
        raise StopError

    monkeypatch.setattr(host, "check_interrupted", stop)
    with pytest.raises(StopError):
        call("UndegradeRealWorldDegradation", image=photo())
