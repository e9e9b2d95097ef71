"""Noise that photographs have: what is measured of it, and what comes back without it."""

import io

import numpy as np
import pytest
import skimage.data
import torch
from node_calls import call, small_prior
from PIL import Image

from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.opponent import from_opponent, opponent
from undegrade.pipelines.photograph.bands import bands, gains
from undegrade.pipelines.photograph.denoising import denoised, missing, turned, turned_back
from undegrade.pipelines.photograph.noise_bands import MARGIN
from undegrade.pipelines.photograph.noise_curve import (
    NoiseModel,
    noise_of,
    slope,
    stabilised,
    unstabilised,
)
from undegrade.pipelines.photograph.noise_level import estimate_noise_level


def window(name, top=0, left=0, side=160):
    pixels = torch.from_numpy(getattr(skimage.data, name)()) / 127.5 - 1
    return pixels.permute(2, 0, 1)[:, top : top + side, left : left + side].float()


def with_noise(x, level, growth=0.0, seed=0):
    """Noise of variance level^2 (1 + growth x)."""
    n = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    return x + level * (1 + growth * x).clamp_min(0).sqrt() * n


def jpeg(x, quality):
    pixels = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 127.5 - 1


CAT, COFFEE = window("chelsea", 0, 60), window("coffee", 100, 150)


@pytest.mark.parametrize("picture", [CAT, COFFEE])
@pytest.mark.parametrize("level", [0.05, 0.15])
def test_white_noise_is_white_and_of_its_level(picture, level):
    model = noise_of(with_noise(picture, level))
    assert model.white and model.tilt == 0
    assert model.level == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("level", [0.05, 0.15])
def test_noise_of_a_grey_picture_is_that_of_its_pixels(level):
    """Three equal channels: luma has sqrt(3) times it, which is what the network is told."""
    grey = with_noise(CAT.mean(0, keepdim=True), level).expand(3, -1, -1)
    model = noise_of(grey)
    assert model.at(0.0) == pytest.approx(level, rel=0.15)
    assert model.level == pytest.approx(3**0.5 * model.at(0.0))
    assert model.of_level(0.1).at(0.0) == pytest.approx(0.1)
    told = call("UndegradeEstimateNoiseLevel", image=as_image(grey))[0]
    assert told == pytest.approx(level, rel=0.25)  # of Chen et al., with the cat's own grain


def test_noise_that_grows_with_brightness():
    model = noise_of(with_noise(COFFEE, 0.08, growth=0.95))
    assert model.white and 0.7 < model.tilt < 0.98
    for x in (-0.7, 0.0, 0.7):
        assert model.at(x) == pytest.approx(0.08 * (1 + 0.95 * x) ** 0.5, rel=0.25)


@pytest.mark.parametrize("quality", [60, 90])
def test_noise_of_a_jpeg_file_is_blotchy_and_of_its_level(quality):
    """Chen et al.'s estimate of white noise is less than 3 of 255."""
    noisy = jpeg(with_noise(CAT, 0.2), quality)
    assert estimate_noise_level(noisy[None]) < 3 / 127.5
    model = noise_of(noisy)
    told = call("UndegradeEstimateNoiseLevel", image=as_image(noisy))[0]
    assert told == pytest.approx(model.at(0.0), rel=1e-4)
    luma = 3**0.5 * 0.2 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5  # what of it JPEG keeps
    assert not model.white and model.level == pytest.approx(luma * MARGIN, rel=0.25)
    assert model.levels[0, 1:].max() < 0.3 * model.level  # fine chroma did not survive


@pytest.mark.parametrize("name", ["gravel", "grass", "brick"])
def test_dense_texture_is_not_smoothed(name):
    pixels = getattr(skimage.data, name)()[:256, :256] / 127.5 - 1
    texture = torch.from_numpy(pixels).float().expand(3, -1, -1)
    image = as_image(texture)
    done, level, report = call("UndegradeDenoise", prior=small_prior(), image=image)
    assert torch.equal(done, image) and level == 0
    assert ("dense texture" in report) == (name != "brick")
    assert call("UndegradeEstimateNoiseLevel", image=image)[0] == pytest.approx(
        estimate_noise_level(texture[None]).item(), abs=1e-4)
    noisy = noise_of(with_noise(texture, 0.2))
    assert noisy.white and noisy.level == pytest.approx(0.2, rel=0.1)


def test_noise_that_a_camera_smoothed():
    """Next to nothing in the finest band, and coarse in colour: as PolyU's photographs have it."""
    levels = torch.tensor([[0.0, 0.0, 0.0], [0.06, 0.008, 0.008], [0.09, 0.06, 0.06]])
    split = bands(opponent(torch.randn(1, 3, 160, 160, generator=torch.Generator().manual_seed(2))))
    noise = from_opponent(sum(levels[k, :, None, None] * split[k] for k in range(3)))
    plain = torch.linspace(-0.5, 0.5, 160).expand(1, 3, 160, -1)
    model = noise_of((plain + noise)[0])
    assert not model.white and 0.025 < model.level < 0.06
    assert noise_of((plain + 0.3 * noise)[0]).level == 0  # too weak to be told from texture


def test_noise_level_of_night_shots_is_that_of_mid_grey():
    noisy = as_image(with_noise(COFFEE, 0.08, growth=0.95))
    told = call("UndegradeEstimateNoiseLevel", image=noisy)[0]
    white = estimate_noise_level(noisy.movedim(-1, 1) * 2 - 1).item()
    assert white < told == pytest.approx(0.08, rel=0.15)


@pytest.mark.parametrize("quality", [None, 80])
@pytest.mark.parametrize("picture", [CAT, COFFEE])
def test_a_clean_photograph_is_left_as_it_is(picture, quality):
    image = as_image(jpeg(picture, quality) if quality else picture)
    done, level, report = call("UndegradeDenoise", prior=small_prior(), image=image)
    assert torch.equal(done, image) and level == 0 and "nothing to gain" in report


def as_image(*pictures):
    return ((torch.stack(pictures) + 1) / 2).permute(0, 2, 3, 1).clamp(0, 1)


def test_bands_sum_to_the_picture_and_know_white_noise(draw):
    x = draw(1, 3, 512, 96)
    torch.testing.assert_close(sum(bands(x)), x)
    torch.testing.assert_close(from_opponent(opponent(x)), x)
    for band, gain in zip(bands(opponent(x))[:3], gains(), strict=False):
        torch.testing.assert_close(band.std((0, 2, 3)), torch.full((3,), gain), rtol=0.05, atol=0)


@pytest.mark.parametrize("tilt", [-0.6, 0.0, 0.9])
def test_stabilised_and_back_without_bias(tilt, draw):
    x = torch.linspace(-0.9, 0.9, 7)[:, None].expand(7, 100_000)
    torch.testing.assert_close(unstabilised(stabilised(x, tilt), tilt, 0.0), x)
    noisy = stabilised(x + 0.05 * (1 + tilt * x).sqrt() * draw(7, 100_000), tilt)
    level = 0.05 * slope(0.0, tilt)
    torch.testing.assert_close(noisy[1:].std(1), torch.full((6,), level), rtol=0.08, atol=0)
    back = unstabilised(noisy.mean(1), tilt, level)
    torch.testing.assert_close(back[1:], x[1:, 0], atol=5e-4, rtol=0)


def test_what_is_missing_makes_noise_white(draw):
    levels = torch.tensor([[0.1, 0.01, 0.0], [0.2, 0.05, 0.1], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]])
    model = NoiseModel(0.0, levels, white=False)
    split = bands(opponent(draw(1, 3, 256, 256)))
    own = sum(s[:, None, None] * band for s, band in zip(levels, split, strict=True))
    filled = opponent(from_opponent(own) + missing(draw(1, 3, 256, 256), model))
    for band, gain in zip(bands(filled)[:3], gains(), strict=False):
        torch.testing.assert_close((band.std((0, 2, 3)) / gain), torch.full((3,), 0.2),
                                   rtol=0.2, atol=0)


def test_orientations_are_undone(draw):
    x = draw(1, 3, 5, 8)
    for k in range(9):
        assert torch.equal(turned_back(turned(x, k), k), x)
    assert len({turned(x, k).flatten()[:7].sum().item() for k in range(8)}) == 8


@pytest.fixture(scope="module")
def prior():
    return load_pixel_prior(BUILT_IN)


@pytest.mark.parametrize("kind", ["white", "growing", "JPEG"])
def test_noise_is_removed_from_a_photograph(kind, prior):
    noisy = {
        "white": lambda x: with_noise(x, 0.2),
        "growing": lambda x: with_noise(x, 0.15, growth=0.95),
        "JPEG": lambda x: jpeg(with_noise(x, 0.2), 80),
    }[kind](CAT).clamp(-1, 1)
    done, level, report = call("UndegradeDenoise", prior=prior, image=as_image(noisy), passes=1)
    gain = psnr(as_image_back(done), CAT[None]) - psnr(noisy[None], CAT[None])
    assert gain > {"white": 8, "growing": 6.5, "JPEG": 5.5}[kind]
    assert 0.1 < level < 0.3
    assert ("blotchy" in report) == (kind == "JPEG") and ("dark" in report) == (kind == "growing")


def as_image_back(image):
    return image.permute(0, 3, 1, 2) * 2 - 1


def test_half_of_the_strength_removes_half():
    image = as_image(with_noise(CAT, 0.1).clamp(-0.98, 0.98))
    done = [call("UndegradeDenoise", prior=small_prior(), image=image, strength=s,
                 passes=1)[0]
            for s in (0.0, 0.5, 1.0)]
    assert torch.equal(done[0], image) and not torch.equal(done[2], image)
    torch.testing.assert_close(done[1], (done[0] + done[2]) / 2, atol=1e-6, rtol=0)


def test_a_picture_of_a_batch_is_what_it_is_alone_and_clean_ones_stay():
    pictures = [with_noise(CAT, 0.1), CAT, jpeg(with_noise(CAT, 0.15, seed=1), 80)]
    image = as_image(*pictures)
    before = image.clone()
    both, _, report = call("UndegradeDenoise", prior=small_prior(), image=image)
    assert torch.equal(image, before) and torch.equal(both[1], image[1])
    for b in range(3):
        assert torch.equal(both[b], call("UndegradeDenoise", prior=small_prior(),
                                         image=image[b : b + 1])[0][0])
    assert [line.split(":")[0] for line in report.split("\n")] == [
        "picture 1", "picture 2", "picture 3"]


@pytest.mark.parametrize(("height", "width", "channels"), [(37, 61, 3), (64, 45, 1), (33, 50, 4)])
def test_any_size_and_layout(height, width, channels):
    image = as_image(with_noise(CAT, 0.1))[:, :height, :width]
    image = torch.cat([image, image.mean(-1, keepdim=True)], -1)[..., -channels:]
    prior = GaussianPrior(std=0.5, spec=PriorSpec(multiple_of=16, name="gaussian"))
    done = call("UndegradeDenoise", prior=prior, image=image, noise_level=0.1)[0]
    assert done.shape == image.shape and not torch.equal(done, image)
    if channels == 4:
        torch.testing.assert_close(done[..., 3], image[..., 3])


def test_a_level_set_by_hand_holds():
    image = as_image(CAT)
    model = noise_of(CAT)
    assert model.of_level(0.1).level == pytest.approx(0.1) and model.of_level(0.1).white
    done = call("UndegradeDenoise", prior=small_prior(), image=image, noise_level=0.3)[0]
    shrunk = 0.5**2 / (0.5**2 + 0.3**2)  # of the Gaussian prior
    torch.testing.assert_close(as_image_back(done)[0], CAT * shrunk, atol=1e-5, rtol=0)


def test_a_grey_picture_stays_grey():
    grey = with_noise(CAT, 0.15).mean(0, keepdim=True).expand(3, -1, -1)
    model = noise_of(grey)
    assert model.level == pytest.approx(3**0.5 * 0.15 / 3**0.5, rel=0.3)
    done = denoised(small_prior(), grey, model, 2)
    assert torch.equal(done[0], done[1]) and torch.equal(done[0], done[2])


def test_a_small_picture_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="31x40 pixels, too few to tell noise from texture"):
        call("UndegradeDenoise", prior=small_prior(), image=torch.rand(1, 40, 31, 3))
