"""What nothing changed comes out bit for bit; what cannot be seen is mixed into nothing."""

import numpy
import pytest
import torch
import torch.nn.functional as F
from node_calls import call
from start_noises import ClosedForm
from start_noises import pixel_prior as sampled_prior
from test_tile_nodes import latent_prior, pixel_prior

from undegrade.nodes.comfyui import host
from undegrade.nodes.images import NEAR, Layout, settled, to_image, to_pixels, visible

# What nothing changed


def every_level(most: int, kind=numpy.uint8, channels: int = 3) -> torch.Tensor:
    """IMAGE as ComfyUI loads it, with every level from 0 to `most` in every channel."""
    side = round((most + 1) ** 0.5)
    levels = numpy.arange(most + 1).astype(kind).reshape(1, side, side, 1)
    turned = [numpy.roll(levels, shift, 2) for shift in range(channels)]
    return torch.from_numpy(numpy.concatenate(turned, 3).astype(numpy.float32) / most)


def saved(image: torch.Tensor, most: int) -> numpy.ndarray:
    """What ComfyUI's SaveImage writes, or one of its kind for 16 bits: cut, not rounded."""
    return numpy.clip(float(most) * image.numpy(), 0, most).astype(numpy.uint16)


def through_pixels(image):
    return to_image(*to_pixels(image))


def through_match_colors(image):
    reference = image.flip(1)[..., :3]
    return call("UndegradeMatchColors", image=image, reference=reference, strength=0.0)[0]


def through_mean(image):
    return call("UndegradePosteriorStatistics", images=image.repeat(7, 1, 1, 1), samples=0)[0]


def through_tiles(prior):
    def through(image):
        tiles, grid = call("UndegradeTileSplitter", prior=prior, image=image, tile=16, overlap=8)
        (latent,) = call("UndegradeTileStitcher", tiles=tiles, grid=grid)
        return call("UndegradeDecodeWithPrior", latent=latent, prior=prior)[0]

    return through


WAYS = {
    "pixels": through_pixels,
    "match colors": through_match_colors,
    "mean": through_mean,
    "tiles": through_tiles(pixel_prior()),
    "tiles of a latent prior": through_tiles(latent_prior()),
}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("most", "kind"), [(255, numpy.uint8), (65535, numpy.uint16)])
@pytest.mark.parametrize("way", WAYS)
def test_every_level_comes_out_bit_for_bit_however_often(way, most, kind, channels):
    image = every_level(most, kind, channels)
    out = image
    for _ in range(3 if most == 255 else 1):
        out = WAYS[way](out)
        assert torch.equal(out, image)
        assert numpy.array_equal(saved(out, most), saved(image, most))
    assert len(numpy.unique(saved(out, most))) == most + 1


@pytest.mark.parametrize("most", [255, 65535])
def test_what_lies_within_rounding_of_a_level_is_saved_as_that_level(most):
    levels = every_level(most, numpy.uint16, 1)
    for off in (-6, -1, 1, 6):
        nearly = 2 * levels.double() - 1 + off * 2.0**-24  # roundings of float32 near 1
        out = to_image(nearly.permute(0, 3, 1, 2).float(), Layout(channels=1))
        assert torch.equal(out, levels)


def test_other_values_move_by_less_than_a_millionth():
    values = torch.rand(1, 1, 500, 500, generator=torch.Generator().manual_seed(1))
    moved = (to_image(2 * values - 1) - values.permute(0, 2, 3, 1)).abs()
    assert moved.max() <= NEAR + 2.0**-24 < 1e-6
    assert (settled(values) == values).float().mean() > 0.9
    middle = (torch.arange(65535) + 0.5) / 65535
    assert torch.equal(settled(middle), middle)


def test_all_8_bit_levels_are_kept_where_comfyui_asks_for_halves(monkeypatch):
    monkeypatch.setattr(host, "outputs", lambda: (torch.device("cpu"), torch.float16))
    image = every_level(255)
    out = image
    for _ in range(3):
        out = through_pixels(out)
        assert out.dtype == torch.float16
        assert numpy.array_equal(saved(out, 255), saved(image, 255))


# Colours under transparent pixels


def cut_out(height: int = 24, width: int = 20, hidden: float = 0.0) -> torch.Tensor:
    """A disc of 0.9, 0.6, 0.3 with a soft rim, on what cannot be seen."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    far = ((y - height / 2) ** 2 + (x - width / 2) ** 2).sqrt()
    alpha = (7 - far).clamp(0, 1)
    colours = torch.full((height, width, 3), hidden)
    colours[alpha > 0] = torch.tensor([0.9, 0.6, 0.3])
    return torch.cat([colours, alpha[..., None]], -1)[None]


def downscaled(factor: int = 2):
    return call("UndegradeDownscale", factor=factor)[0]


def degraded(image):
    return call("UndegradeDegradeImage", image=image, operator=downscaled(), noise_level=1e-7)[0]


def enlarged_by_the_measurement(image):
    (m,) = call("UndegradeMeasurementFromImage", image=image, operator=downscaled())
    height, width = m.image_size
    start = F.interpolate(m.y, size=(height, width), mode="bicubic")
    return to_image(start, m.layout)


def resized_before_the_network(image):
    seen = {}

    class Watching(ClosedForm):
        def predict(self, lr, sigma):
            seen["lr"] = lr
            return super().predict(lr, sigma)

    call("UndegradeInversionSampler", prior=sampled_prior(), predictor=Watching(), image=image,
         scale=6.0, resize="before")
    _, layout = to_pixels(image)
    return to_image(seen["lr"], layout)


@pytest.mark.parametrize("hidden", [0.0, 1.0])
@pytest.mark.parametrize("way", [degraded, enlarged_by_the_measurement,
                                 resized_before_the_network])
def test_no_hidden_colour_gets_into_the_rim(way, hidden):
    out = way(cut_out(hidden=hidden))
    assert out.shape[1:3] != (24, 20)
    shown = out[out[..., 3] > 1 / 255]
    assert len(shown) > 50
    assert (shown[:, :3] - torch.tensor([0.9, 0.6, 0.3])).abs().max() < 1e-5


def test_visible_pixels_and_pictures_that_cannot_be_seen_stay_as_they_are():
    image = torch.cat([cut_out(), photo_of_nothing()])
    pixels, layout = to_pixels(image)
    before = pixels.clone()
    filled = visible(pixels, layout)
    assert torch.equal(pixels, before)
    there = layout.alpha[:1].expand(-1, 3, -1, -1) > 0
    assert torch.equal(filled[:1][there], pixels[:1][there])
    assert (filled[:1][~there] > -1).all()
    assert torch.equal(filled[1:], pixels[1:])
    opaque, plain = to_pixels(torch.rand(1, 5, 7, 3))
    assert visible(opaque, plain) is opaque


def photo_of_nothing() -> torch.Tensor:
    image = torch.rand(1, 24, 20, 4)
    image[..., 3] = 0
    return image


def test_what_alpha_hides_spoils_nothing():
    outs = [call("UndegradeRealWorldDegradation", image=cut_out(hidden=hidden))[0]
            for hidden in (0.0, 1.0)]
    assert torch.equal(*outs) and outs[0].shape[1] < 24
