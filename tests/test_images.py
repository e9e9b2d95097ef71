"""IMAGE and MASK in and out: layout, range, grey, alpha, and what is refused."""

from types import SimpleNamespace

import numpy
import pytest
import torch

from undegrade.nodes.comfyui import host
from undegrade.nodes.images import (
    Layout,
    to_image,
    to_latent,
    to_mask,
    to_pixels,
    to_planes,
    to_preview,
)


def picture(channels: int, batch: int = 2, height: int = 5, width: int = 7) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, height, width, channels, generator=generator)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_round_trip_gives_the_same_picture(channels):
    image = picture(channels)
    before = image.clone()
    pixels, layout = to_pixels(image)
    back = to_image(pixels, layout)
    assert back.shape == image.shape and back.dtype == torch.float32
    torch.testing.assert_close(back, image, atol=1e-6, rtol=0)
    assert torch.equal(image, before)


def test_pixels_are_channels_first_from_minus_one_to_one():
    image = torch.zeros(1, 2, 3, 3)
    image[0, 1, 2] = torch.tensor([1.0, 0.5, 0.25])
    pixels, _ = to_pixels(image)
    assert pixels.shape == (1, 3, 2, 3)
    assert pixels[0, :, 1, 2].tolist() == [1.0, 0.0, -0.5]
    assert pixels[0, :, 0, 0].tolist() == [-1.0, -1.0, -1.0]


def test_grey_becomes_three_equal_channels():
    pixels, layout = to_pixels(picture(1))
    assert pixels.shape[1] == 3 and layout.channels == 1
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_alpha_leaves_again_at_another_size_and_for_several_samples():
    image = picture(4, batch=2)
    image[..., 3] = torch.tensor([0.25, 1.0])[:, None, None]
    _, layout = to_pixels(image)
    big = to_image(torch.zeros(6, 3, 10, 14), layout)
    assert big.shape == (6, 10, 14, 4)
    alphas = big[..., 3].flatten(1)
    torch.testing.assert_close(alphas.mean(1), torch.tensor([0.25] * 3 + [1.0] * 3))


def test_every_level_of_alpha_leaves_as_it_came():
    levels = torch.arange(65536).view(1, 256, 256, 1) / 65535
    image = torch.cat([torch.zeros(1, 256, 256, 3), 1 - (1 - levels)], -1)  # by way of a mask
    assert not torch.equal(image[..., 3:], levels)
    assert torch.equal(to_image(*to_pixels(image))[..., 3:], levels)


def test_half_precision_comes_out_as_float32_and_clipped():
    out = to_image(torch.tensor([-3.0, 0.0, 3.0], dtype=torch.float16).view(1, 3, 1, 1))
    assert out.dtype == torch.float32
    assert out.flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("asked", [torch.float16, torch.float32, None])
def test_what_leaves_is_in_the_format_that_comfyui_asks_for(monkeypatch, asked):
    known = SimpleNamespace(intermediate_device=lambda: torch.device("meta"))
    if asked:  # an older ComfyUI does not ask
        known.intermediate_dtype = lambda: asked
    monkeypatch.setattr(host, "comfy", {"comfy.model_management": known}.get)
    pixels, layout = to_pixels(picture(4).half())
    assert pixels.dtype == layout.alpha.dtype == torch.float32
    given = (to_image(pixels, layout), to_mask(layout.alpha), to_latent(pixels)["samples"])
    expected = (torch.device("meta"), asked or torch.float32)
    assert [(one.device, one.dtype) for one in given] == 3 * [expected]


def test_a_preview_does_not_depend_on_it(monkeypatch):
    pixels, _ = to_pixels(picture(3))
    plain = numpy.asarray(to_preview(pixels))
    monkeypatch.setattr(host, "outputs", lambda: (torch.device("meta"), torch.float16))
    assert numpy.array_equal(numpy.asarray(to_preview(pixels)), plain) and plain.shape == (5, 7, 3)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.zeros(1, 4, 4, 2), "with 1 \\(grey\\), 3 \\(RGB\\) or 4"),
        (torch.zeros(4, 4, 3), "shape \\(4, 4, 3\\)"),
        (torch.zeros(1, 0, 4, 3), "shape \\(1, 0, 4, 3\\)"),
        (torch.full((1, 2, 2, 3), float("nan")), "NaN or infinite"),
        (torch.full((1, 2, 2, 3), float("inf")), "NaN or infinite"),
    ],
)
def test_bad_images_are_refused_in_one_sentence(image, said):
    with pytest.raises(ValueError, match=said):
        to_pixels(image)


def test_a_wrong_kind_is_refused():
    with pytest.raises(TypeError, match="connect an IMAGE"):
        to_pixels("photo.png")
    with pytest.raises(TypeError, match="connect a MASK"):
        to_planes(None)


def test_masks_with_and_without_a_batch():
    flat = torch.eye(3)
    assert to_planes(flat).shape == (1, 1, 3, 3)
    assert torch.equal(to_mask(to_planes(flat[None])), flat[None])
    with pytest.raises(ValueError, match="NaN"):
        to_planes(torch.full((2, 2), float("nan")))
    with pytest.raises(ValueError, match="batch, height, width"):
        to_planes(torch.zeros(1, 1, 2, 2))


def test_layout_defaults_to_rgb():
    assert Layout().channels == 3 and Layout().alpha is None
