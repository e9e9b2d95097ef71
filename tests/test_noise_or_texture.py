"""Noise told from texture of the same levels."""

import pytest
import skimage.data
import torch
from test_denoising import jpeg, window, with_noise

from undegrade.pipelines.photograph import noise_curve
from undegrade.pipelines.photograph.noise_curve import noise_of

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
    monkeypatch.setattr(noise_curve, "CAUTIOUS", 1.0)
    assert noise_of(noisy).texture
