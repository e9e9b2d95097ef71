"""The estimated noise level against known noise, on photographs that nothing was tuned for."""

import math

import pytest
import skimage.data
import torch

from undegrade.pipelines.photograph.noise_level import estimate_noise_level, even_mean, patch_side

LEVELS = (0.02, 0.05, 0.1, 0.2)


def photo(name):
    pixels = torch.from_numpy(getattr(skimage.data, name)()[:256, :256]) / 127.5 - 1
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return pixels.permute(2, 0, 1)[None].float()


@pytest.fixture(scope="module")
def noise():
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(shape, generator=generator)


@pytest.mark.parametrize("name", ["chelsea", "immunohistochemistry", "retina", "moon", "brick"])
def test_clean_photographs(name, noise):
    x = photo(name)
    noisy = torch.cat([x + level * noise(*x.shape) for level in LEVELS])
    for estimate, level in zip(estimate_noise_level(noisy).tolist(), LEVELS, strict=True):
        assert abs(estimate / level - 1) < 0.1


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket", "camera", "coins", "gravel"])
def test_grainy_photographs(name, noise):
    """Grain and fine texture of the photograph itself count as noise: variances add up."""
    x = photo(name)
    own = estimate_noise_level(x).item()
    noisy = torch.cat([x + level * noise(*x.shape) for level in LEVELS])
    for estimate, level in zip(estimate_noise_level(noisy).tolist(), LEVELS, strict=True):
        assert abs(estimate / math.hypot(level, own) - 1) < 0.1
    if own < 0.02:
        assert all(abs(estimate_noise_level(noisy)[1:] / torch.tensor(LEVELS[1:]) - 1) < 0.1)


@pytest.mark.parametrize("size", [(25, 25), (37, 31), (64, 48), (12, 300)])
def test_noise_alone_in_small_pictures(size, noise):
    estimates = estimate_noise_level(0.1 * noise(12, 3, *size)) / 0.1
    assert 0.88 < estimates.mean() < 1.02
    assert estimates.std() < 0.1


def test_the_mean_of_the_smallest_is_held_against_their_median():
    """Two thirds of the directions are noise of variance 1, one third of the picture 4 to 5: their
    mean, 2.5, is no noise, and the largest m that counts has a mean of 1."""
    eigenvalues = torch.cat([torch.ones(8), torch.linspace(4, 5, 4)]).double()
    assert even_mean(eigenvalues) == pytest.approx(1.0, abs=1e-6)
    spread = torch.tensor([0.9, 0.95, 1.0, 1.05, 1.1, 9.0]).double()
    assert even_mean(spread) == pytest.approx(1.0, abs=1e-6)
    even = torch.tensor([1.0, 2.0, 2.5, 2.6]).double()  # medians 1, 1.5, 2, 2.25; means to 2.025
    assert even_mean(even) == pytest.approx(2.025)


def test_flat_pictures_have_no_noise(noise):
    flat = torch.tensor([-1.0, 0.0, 0.37])[:, None, None, None].expand(3, 3, 37, 31)
    assert estimate_noise_level(flat).max() < 1e-6
    ramp = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    assert estimate_noise_level(ramp).max() < 1e-6


def test_grey_stored_as_colour(noise):
    grey = photo("moon") + 0.05 * noise(1, 1, 256, 256)
    assert torch.equal(estimate_noise_level(grey.expand(1, 3, -1, -1)), estimate_noise_level(grey))


def test_a_sample_does_not_depend_on_its_batch(noise):
    x = noise(3, 3, 37, 31) * torch.tensor([0.05, 0.1, 0.2])[:, None, None, None]
    before = x.clone()
    with torch.inference_mode():
        whole = estimate_noise_level(x)
        assert whole.shape == (3,)
        assert whole.dtype == torch.float32
        for b in range(3):
            assert torch.equal(estimate_noise_level(x[b : b + 1]), whole[b : b + 1])
    assert torch.equal(x, before)
    assert torch.allclose(estimate_noise_level(3 * x - 0.5), 3 * whole, rtol=1e-3)


def test_refusals():
    for channels, least in ((3, 25), (1, 16)):
        patch_side(channels, least, least)
        sentence = f"{least - 1}x{least - 1} pixels, too few .* give one of {least}x{least} or more"
        with pytest.raises(ValueError, match=sentence):
            patch_side(channels, least - 1, least - 1)
    for size in ((1, 1), (1, 500), (3, 500)):
        with pytest.raises(
            ValueError, match="too few to tell noise from texture; give one of 16x16"
        ):
            estimate_noise_level(torch.zeros(1, 1, *size))
    with pytest.raises(ValueError, match=r"shape \(3, 40, 40\); give \(B, C, H, W\)"):
        estimate_noise_level(torch.zeros(3, 40, 40))
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            estimate_noise_level(torch.full((1, 3, 40, 40), value))
