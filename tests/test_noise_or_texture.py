"""Noise told from texture of the same levels."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageDraw, ImageFont
from test_denoising import jpeg, window, with_noise

from undegrade.pipelines.photograph import noise_bands
from undegrade.pipelines.photograph.denoising import report
from undegrade.pipelines.photograph.noise_curve import noise_of
from undegrade.pipelines.photograph.noise_level import estimate_noise_level

TISSUE = torch.nn.functional.avg_pool2d(window("immunohistochemistry", side=512), 2)
GREY = torch.from_numpy(skimage.data.brick()) / 127.5 - 1
BRICK = torch.nn.functional.avg_pool2d(GREY.float().expand(1, 3, -1, -1), 2)[0]


@pytest.mark.parametrize("level", [8, 12])
def test_texture_in_one_chroma_is_not_taken_for_blotches(level):
    """Stained tissue: it was read as 44 and 47 of 255."""
    model = noise_of(with_noise(TISSUE, level / 127.5))
    assert model.white and model.at(0.0) == pytest.approx(level / 127.5, rel=0.2)


def test_structure_is_told_from_noise_of_the_same_levels():
    """Demosaiced tissue was taken for noise of 40 of 255; on a plain ground such noise is found."""
    model = noise_of(demosaiced(TISSUE))
    assert model.texture and not model.level
    plain = torch.linspace(-0.5, 0.5, 256).expand(3, 256, -1)
    noisy = noise_of(demosaiced(with_noise(plain, 0.1)))
    assert noisy.blotchy and noisy.level > 0.05


def demosaiced(x):
    """The mean of the seen neighbours in every colour of a Bayer mosaic, in 8 bits."""
    seen = torch.zeros_like(x)
    seen[0, ::2, ::2] = seen[2, 1::2, 1::2] = seen[1, ::2, 1::2] = seen[1, 1::2, ::2] = 1
    kernel = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])[None, None]
    x, share = (torch.nn.functional.conv2d(p[:, None], kernel, padding=1) for p in (x * seen, seen))
    return ((x / share)[:, 0] * 127.5).round().clamp(-127.5, 127.5) / 127.5


def test_noise_on_texture_is_no_more_than_luma_and_chroma_both_have(monkeypatch):
    """Strong noise on brick is not left, though brick is structured; weaker noise would be."""
    noisy = jpeg(with_noise(BRICK, 25 / 127.5), 50)
    model = noise_of(noisy)
    assert model.blotchy and 0.4 < model.at(0.0) / (25 / 127.5) < 1.1
    monkeypatch.setattr(noise_bands, "CAUTIOUS", 1.0)
    assert noise_of(noisy).texture


@pytest.mark.parametrize("quality", [None, 75])
def test_letters_are_not_taken_for_noise(quality):
    """A page of small print was noise of 98 of 255 and came back as stripes."""
    page = Image.new("RGB", (200, 200), "white")
    for top in range(0, 200, 14):
        ImageDraw.Draw(page).text((3, top), "The quick brown fox jumps over the lazy dog",
                                  fill="black", font=ImageFont.load_default(10))
    x = torch.from_numpy(np.array(page)).movedim(-1, 0) / 127.5 - 1
    model = noise_of(jpeg(x, quality) if quality else x)
    assert model.drawn and not model.level and "letters" in report(model)


@pytest.mark.parametrize("pattern", [
    lambda i: (i[:, None] // 2 + i // 2) % 2 - 0.5,
    lambda i: 0.3 * torch.sin(1.7 * i[:, None] + 0 * i),
])
def test_patterns_are_not_taken_for_noise(pattern):
    model = noise_of(pattern(torch.arange(160)).expand(3, -1, -1).clone())
    assert not model.level


def test_noise_of_a_toned_picture_is_its_lumas():
    """Sepia with noise of 20 of 255 was said to have none: two chromas have next to none."""
    grey = torch.from_numpy(skimage.data.camera())[None, 100:260, 100:260] / 127.5 - 1
    noisy = with_noise(grey.float(), 20 / 127.5).clamp(-1, 1)
    tone = torch.tensor([1, 0.9, 0.75])[:, None, None]
    sepia = ((noisy + 1) * tone * 127.5).round() / 127.5 - 1
    model = noise_of(sepia)
    assert model.toned and model.at(0.0) == pytest.approx(0.88 * 20 / 127.5, rel=0.15)
    assert not noise_of(window("coffee")).toned


def test_a_level_given_for_a_grey_picture_is_that_of_each_channel():
    model = noise_of(torch.zeros(3, 48, 48)).of_level(0.1)
    assert model.at(0.0) == pytest.approx(0.1) and not model.levels[:, 1:].any()
    assert report(noise_of(torch.zeros(3, 48, 48)), 1e-4).endswith("of 255: taken as 0.0001")


def test_a_canvas_of_one_colour_does_not_lower_the_noise():
    """On a canvas four times as large it read half."""
    noisy = with_noise(window("coffee"), 0.15)[None]
    canvas = torch.ones(1, 3, 320, 320)
    canvas[..., 80:240, 80:240] = noisy
    alone, beside = (float(estimate_noise_level(x)) for x in (noisy, canvas))
    assert beside == pytest.approx(alone, rel=0.05)
