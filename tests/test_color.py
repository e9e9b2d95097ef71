"""Colours of a reference: identities, statistics, and a twin in plain loops."""

import pytest
import torch
from node_calls import call, photo

from undegrade.pipelines.color import METHODS, low_band, match_colors
from undegrade.pipelines.resizing import resized

every_method = pytest.mark.parametrize("method", list(METHODS))
LUMA = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def picture(draw, batch=1, height=37, width=31):
    return 0.3 * draw(batch, 3, height, width).clamp(-3, 3)


def low_band_by_hand(picture: torch.Tensor) -> torch.Tensor:
    """Five 3x3 binomial blurs of one (H, W) plane, taps 2^i apart, indices held at the border."""
    binomial = {-1: 0.25, 0: 0.5, 1: 0.25}
    height, width = picture.shape
    for level in range(5):
        gap, blurred = 2**level, torch.zeros_like(picture)
        for v in range(height):
            for u in range(width):
                for i, a in binomial.items():
                    for j, b in binomial.items():
                        row = min(max(v + i * gap, 0), height - 1)
                        column = min(max(u + j * gap, 0), width - 1)
                        blurred[v, u] += a * b * picture[row, column]
        picture = blurred
    return picture


@every_method
def test_matching_to_itself_changes_nothing(draw, method):
    image = picture(draw, 3)
    with torch.inference_mode():
        matched = match_colors(image, image.clone(), method)
    assert (matched - image).abs().max() < (1e-5 if method == "Lab" else 1e-6)


@every_method
def test_strength_goes_from_the_image_to_the_match(draw, method):
    image, guide = picture(draw), picture(draw)
    full = match_colors(image, guide, method)
    assert torch.equal(match_colors(image, guide, method, 0.0), image)
    half = match_colors(image, guide, method, 0.5)
    assert torch.allclose(half, (image + full) / 2, atol=1e-6)
    assert (full - image).abs().max() > 0.02


@every_method
def test_a_sample_does_not_depend_on_its_batch(draw, method):
    image, guide = picture(draw, 3), picture(draw, 3)
    before = image.clone(), guide.clone()
    together = match_colors(image, guide, method)
    for b in range(3):
        assert torch.equal(together[b : b + 1], match_colors(image[b : b + 1], guide[b : b + 1],
                                                             method))
    assert torch.equal(before[0], image) and torch.equal(before[1], guide)


def test_low_band_is_the_written_out_one(draw):
    plane = draw(1, 2, 11, 9, dtype=torch.float64)
    expected = torch.stack([low_band_by_hand(p) for p in plane[0]])[None]
    assert (low_band(plane) - expected).abs().max() < 1e-12


def test_wavelet_is_the_sum_of_the_levels(draw):
    """The papers' form: the image's five differences on the guide's fifth level."""
    image, guide = picture(draw).double(), picture(draw).double()
    expected = (image - low_band(image)) + low_band(guide)
    assert (match_colors(image, guide, "wavelet") - expected).abs().max() < 1e-12


def test_wavelet_takes_away_a_colour_cast_and_keeps_detail(draw):
    """A constant cast lies wholly in the low band, a checkerboard wholly above it."""
    guide, cast = picture(draw, 2, 40, 33), draw(2, 3, 1, 1)
    assert (match_colors(guide + cast, guide, "wavelet") - guide).abs().max() < 1e-5
    board = (torch.arange(64)[:, None] + torch.arange(64)) % 2 * 2.0 - 1
    board = board.expand(1, 3, 64, 64).contiguous()
    inside = (slice(None), slice(None), slice(31, 33), slice(31, 33))
    flat = torch.full_like(board, 0.25)
    assert (match_colors(board, flat, "wavelet")[inside] - board[inside] - 0.25).abs().max() < 1e-6


def test_adain_gives_mean_and_deviation_of_the_guide(draw):
    image, guide = picture(draw, 2).double(), 0.2 + 0.5 * picture(draw, 2).double()
    matched = match_colors(image, guide, "AdaIN")
    assert (matched.mean((2, 3)) - guide.mean((2, 3))).abs().max() < 1e-12
    ours, theirs, had = (p.var((2, 3)) for p in (matched, guide, image))
    eps = 4e-5  # 1e-5 with pixels in [0, 1]
    assert (ours - had * (theirs + eps) / (had + eps)).abs().max() < 1e-12


@pytest.mark.parametrize("size", [(1, 1), (8, 8)])
def test_adain_of_flat_pictures_is_finite(size):
    image, guide = torch.zeros(1, 3, *size), torch.full((1, 3, *size), 0.4)
    assert torch.allclose(match_colors(image, guide, "AdaIN"), guide)


def test_ycbcr_keeps_luma_and_takes_chroma(draw):
    """Against the BT.601 matrix of Y', B - Y', R - Y'."""
    image, guide = picture(draw).double(), picture(draw).double()
    matched = match_colors(image, guide, "YCbCr")
    luma = {k: (p * LUMA).sum(1) for k, p in
            {"image": image, "guide": guide, "matched": matched}.items()}
    assert (luma["matched"] - luma["image"]).abs().max() < 1e-6
    for channel in (0, 2):
        chroma = matched[:, channel] - luma["matched"]
        assert (chroma - (guide[:, channel] - luma["guide"])).abs().max() < 1e-6


def test_lab_keeps_lightness_and_takes_colours():
    skimage = pytest.importorskip("skimage.color")
    generator = torch.Generator().manual_seed(3)
    image, guide = (0.3 + 0.4 * torch.rand(1, 3, 9, 7, generator=generator) for _ in "ab")
    matched = (match_colors(2 * image - 1, 2 * guide - 1, "Lab") + 1) / 2
    lab = [torch.from_numpy(skimage.rgb2lab(p[0].permute(1, 2, 0).numpy().clip(0, 1)))
           for p in (matched, image, guide)]
    inside = ((matched > 0) & (matched < 1)).all(1)[0]
    assert inside.float().mean() > 0.5
    assert (lab[0] - lab[1])[inside][:, 0].abs().max() < 0.01
    assert (lab[0] - lab[2])[inside][:, 1:].abs().max() < 0.01


def test_a_reference_of_another_size_is_resized_with_antialiasing(draw):
    image, guide = picture(draw, 1, 32, 24), picture(draw, 1, 16, 12)
    expected = torch.nn.functional.interpolate(guide, size=(32, 24), mode="bicubic", antialias=True)
    assert torch.equal(resized(guide, (32, 24)), expected)
    for method in METHODS:
        assert torch.equal(match_colors(image, guide, method),
                           match_colors(image, expected, method))


def test_refusals_of_the_function(draw):
    image = picture(draw, 2)
    for given, said in (
        ((image, image, "hue"), "method is 'hue'; choose one of wavelet"),
        ((image, image, "Lab", 1.5), "strength is 1.5"),
        ((image, image[:1], "Lab"), "image and reference are 2 and 1"),
    ):
        with pytest.raises(ValueError, match=said):
            match_colors(*given)


# The node


def test_one_reference_for_many_and_alpha_and_grey_are_kept():
    image = photo(37, 31, channels=4, batch=3)
    image[1] *= 0.5
    with torch.inference_mode():
        matched = call("UndegradeMatchColors", image=image, reference=photo(37, 31))[0]
    assert matched.shape == image.shape and matched.dtype == torch.float32
    assert torch.equal(matched[..., 3], image[..., 3])
    single = call("UndegradeMatchColors", image=image[1:2], reference=photo(37, 31))[0]
    assert torch.equal(matched[1:2], single)
    grey = photo(20, 20, channels=1)
    assert call("UndegradeMatchColors", image=grey, reference=photo(20, 20))[0].shape == grey.shape


def test_a_resized_reference_is_told_and_a_matching_one_is_not():
    from undegrade.nodes.colors import MatchColors

    node, image = MatchColors(), photo(128, 96)
    out = node.match(image, photo(32, 24), "wavelet", 1.0)
    assert out["ui"]["text"] == ["reference resized from 24x32 to 96x128 pixels"]
    assert node.match(image, photo(128, 96), "wavelet", 1.0)["ui"]["text"] == []


@pytest.mark.parametrize(("size", "fits"), [((35, 31), True), ((53, 47), True), ((32, 24), False),
                                            ((31, 35), False)])
def test_references_of_another_shape(size, fits):
    image = photo(140, 124)  # 53 x 47 enlarged 2.64 times, and rounded
    if fits:
        call("UndegradeMatchColors", image=image, reference=photo(*size))
    else:
        with pytest.raises(ValueError, match="different shapes, and wavelet compares"):
            call("UndegradeMatchColors", image=image, reference=photo(*size))
    call("UndegradeMatchColors", image=image, reference=photo(*size), method="AdaIN")


def test_what_the_node_refuses():
    with pytest.raises(TypeError, match="reference is a int; connect an IMAGE"):
        call("UndegradeMatchColors", image=photo(), reference=3)
    with pytest.raises(ValueError, match="image and the other side are 3 and 2"):
        call("UndegradeMatchColors", image=photo(batch=3), reference=photo(batch=2))
