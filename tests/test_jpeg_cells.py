"""What a picture was before JPEG: means over cells, of files as programs write them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import coffee

from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample, pool
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.operators.jpeg_blocks import coefficients, plane_of, planes_of, tables
from undegrade.pipelines.operators.jpeg_cells import cells_of, multiples, shift, truncated
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient


def photo(height=64, width=96):
    picture = coffee()[100 : 100 + height, 150 : 150 + width]
    return torch.tensor(picture).permute(2, 0, 1)[None] / 127.5 - 1


def saved(x, quality, subsampling=2):
    pixels = ((x[0].permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return torch.tensor(np.asarray(Image.open(file)) / 127.5 - 1).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("quality", [1, 12, 49, 50, 51, 83, 100])
def test_tables_are_those_of_a_file(quality):
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=quality)
    written = Image.open(file).quantization
    for ours, theirs in zip(tables(quality), (written[0], written[1]), strict=True):
        assert ours.flatten().tolist() == list(theirs)


def test_blocks_there_and_back(draw):
    plane = draw(2, 24, 16)
    c = coefficients(plane)
    assert c.shape == (2, 3, 2, 8, 8) and (plane_of(c) - plane).abs().max() < 1e-6
    assert abs(float(c.square().sum() / plane.square().sum()) - 1) < 1e-6


@pytest.mark.parametrize("low", [-30.0, -4.0, -0.01, 0.0, 2.0, 50.0])
@pytest.mark.parametrize("size", [0.003, 0.5, 9.0, 200.0])
def test_mean_of_a_truncated_normal(low, size):
    high = low + size
    u = torch.linspace(low, high, 400_001, dtype=torch.float64)
    p = torch.exp(-u.square() / 2 + u.square().min() / 2)
    expected = float((u * p).sum() / p.sum())
    got = float(truncated(torch.tensor([low]), torch.tensor([high])))
    assert abs(got - expected) < 2e-3 * min(1.0, max(size, 0.1)) + 1e-4 * abs(expected)


@pytest.mark.parametrize(("s", "r"), [(0.2, 3.0), (2.0, 1.0), (0.4, 0.3)])
def test_a_coefficient_is_the_mean_given_its_cell(s, r):
    """By drawing: c ~ N(c_hat, r^2), quantised with 5, noise s, kept where it comes out at c_y."""
    generator = torch.Generator().manual_seed(1)
    c_hat, q = 6.3, 5.0
    c = c_hat + r * torch.randn(2_000_000, generator=generator)
    c_y = (c / q).round() * q + s * torch.randn(c.shape, generator=generator)
    target = torch.tensor(5.1)
    expected = c[(c_y - target).abs() < 0.05].mean()
    n, w = multiples(target, torch.tensor(q), torch.tensor(s))
    got = c_hat + shift(torch.tensor(c_hat), n, w, torch.tensor(q), torch.tensor(r))
    assert abs(got - expected) < 0.1


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 96), (61, 83)])
def test_the_truth_lies_in_the_cells(subsampling, size):
    x = photo(*size)
    y = saved(x, 40, subsampling)
    cells = cells_of(y, 40, 0.003)
    assert cells.smaller == ((1, 1), (1, 2), (2, 2))[subsampling] and cells.before == (0, 0)
    assert (cells.mean(x, 1e-4) - x).abs().max() < 0.01  # nothing moves what is right
    n, q = cells.middles[0], cells.steps[0]
    rows, columns = size[0] // 8, size[1] // 8
    c = coefficients(planes_of(x[..., : rows * 8, : columns * 8])[:, 0])
    assert ((c - n[:, :rows, :columns]).abs() <= q / 2 + 1.5).float().mean() > 0.99


@pytest.mark.parametrize(("rows", "columns", "subsampling"), [(3, 6, 2), (11, 0, 2), (5, 9, 1)])
def test_blocks_of_a_cropped_picture(rows, columns, subsampling):
    """They begin where the estimate says, and those of colour where they lie on its multiples."""
    whole = photo(96, 112)
    x, y = (each[..., rows:, columns:] for each in (whole, saved(whole, 30, subsampling)))
    top, left = -rows % 8, -columns % 8
    cells = cells_of(y, 30, 0.003, top, left)
    assert cells.smaller == ((1, 2), (2, 2))[subsampling - 1]
    across = 16 if subsampling == 2 else 8  # of 4:2:2 both places of a row are one
    assert cells.before[0] % across == rows % across and cells.before[1] == columns % 16
    for place, (least, most) in (((top, left), (0.98, 1)), ((0, 0), (0, 0.975))):
        cells = cells_of(y, 30, 0.003, *place)
        off = (cells.blocks(x)[0] - cells.middles[0])[:, 2:-2, 2:-2].abs()
        assert least <= (off <= cells.steps[0] / 2 + 1.5).float().mean() <= most
    again, astray = ((planes_of(JPEG(30, *at)(x) - y)[:, 0] + 0.5).square().mean()
                     for at in ((top, left), (0, 0)))
    assert again < 0.3 * astray


def test_a_prediction_is_drawn_into_the_cells():
    x = photo()
    y = saved(x, 30)
    wrong = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    m = Measurement(y, JPEG(30), 0.005)
    z = ConjugateGradient()(wrong, 0.5, m)
    off, left = ((planes_of(each - x)[:, 0] + 0.5).square().mean() for each in (wrong, z))
    assert left < 0.1 * off  # luma; of colour the file holds half a resolution
    assert torch.equal(ConjugateGradient()(wrong, 0.5, m), z)  # the cells are kept with the file


@pytest.mark.parametrize("factor", [1, 2])
def test_on_a_canvas_only_the_picture_moves(factor):
    x = photo(61, 83)
    m = Measurement(saved(x, 30), JPEG(30), 0.005)
    steps = ((NearestUpsample(factor),) if factor > 1 else ()) + (Crop(61, 83), m.operator)
    state = torch.nn.functional.pad(x, (0, 13, 0, 3), mode="replicate") + 0.2
    chain = Compose((Compose(steps[:-1]), steps[-1]))
    z = ConjugateGradient()(pool(state, factor), 0.2, Measurement(m.y, chain, 0.005))
    alone = ConjugateGradient()(x + 0.2, 0.2, m)
    if factor == 1:
        assert torch.allclose(z[..., :61, :83], alone, atol=1e-6)
        assert torch.equal(z[..., 61:, :], state[..., 61:, :])
    assert (z[..., : 56 // factor, : 80 // factor].mean() - x[..., :56, :80].mean()).abs() < 0.02


@pytest.mark.parametrize("inner", [Downscale(2), GaussianBlur(std=1.0)])
def test_a_linear_part_before_jpeg(inner):
    x = photo()
    y = saved(inner(x), 50)
    m = Measurement(y, Compose((inner, JPEG(50))), 0.02)
    start = x + 0.5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    z = ConjugateGradient()(start, 0.5, m)
    assert psnr(inner(z), inner(x)) > psnr(inner(start), inner(x)) + 1
    assert psnr(z, x) > psnr(start, x)


def test_colour_of_a_picture_never_compressed_is_whole():
    y = ((photo() + 1) * 127.5).round() / 127.5 - 1
    assert cells_of(y, 100, 0.01).smaller == (1, 1)
    told = JPEG(100).before(y, torch.zeros_like(y), 1.0, 0.01)
    assert (told - y).abs().max() < 0.02  # nothing is sharper than it came
