"""Quality block by block: closed forms, and the whole-picture metrics as a block of all."""

import math

import pytest
import torch
from kornia.metrics import ssim as kornia_ssim

from undegrade.pipelines.adadiffsr.quality_maps import (
    full_reference,
    gmsd_map,
    luma,
    nlpd_map,
    no_reference,
    psnr_quality,
    split_band,
    ssim_quality,
)
from undegrade.pipelines.metrics import gmsd


@pytest.fixture
def pictures(draw):
    return 0.4 * draw(2, 3, 32, 48), 0.4 * draw(2, 3, 32, 48)


def test_a_picture_is_best_against_itself(pictures):
    x = pictures[0].clamp(-1, 1)
    assert torch.equal(full_reference(x, x), torch.ones(2, 4, 6))
    worse = full_reference(x + 0.02 * pictures[1], x)
    worst = full_reference(x + 0.5 * pictures[1], x)
    assert (worst < worse).all() and (worse < 1).all() and (worst >= 0).all()


def test_only_the_block_that_differs_is_worse(pictures):
    x = pictures[0].clamp(-1, 1)
    y = x.clone()
    y[:, :, 19:21, 27:29] += 0.3
    map_ = full_reference(y, x)
    assert (map_[:, 2, 3] < 0.9).all()
    assert torch.equal(map_[:, 0, 0], torch.ones(2)) and (map_[:, 0, 5] > 0.99).all()


def test_psnr_has_a_ceiling_at_what_is_seen():
    """A constant error e of luma in [0, 1] is -20 lg e decibels."""
    zero = torch.zeros(1, 1, 8, 16)
    for error, value in ((0.1, 0.0), (10**-1.5, 0.5), (0.01, 1.0)):
        found = psnr_quality(zero + error, zero, 8)
        assert torch.allclose(found, torch.full((1, 1, 2), value), atol=1e-4)


def test_ssim_and_gmsd_are_those_of_the_whole_picture(draw):
    x, y = (0.4 * draw(2, 3, 32, 32)).clamp(-1, 1), (0.4 * draw(2, 3, 32, 32)).clamp(-1, 1)
    whole = kornia_ssim(luma(x), luma(y), 11).mean((1, 2, 3))
    assert torch.allclose(ssim_quality(luma(x), luma(y), 8).mean((1, 2)), whole, atol=1e-6)
    assert torch.allclose(gmsd_map(x, y, 32)[:, 0, 0], gmsd(x, y), atol=1e-4)


def test_the_pyramid_puts_a_picture_together_again(draw):
    """A band and the enlarged half are the picture, and a constant has empty bands."""
    flat = torch.full((1, 1, 16, 16), 0.3)
    band, half = split_band(flat)
    assert band.abs().max() < 1e-6 and torch.allclose(half, torch.full((1, 1, 8, 8), 0.3))


def test_nlpd_of_two_constants():
    """Only the rest differs: |a - b| c / ((c + a) (c + b)) over the four bands."""
    a, b = torch.full((1, 1, 16, 16), 0.2), torch.full((1, 1, 16, 16), 0.7)
    expected = abs(0.2 / 4.86 / (1 + 0.2 / 4.86) - 0.7 / 4.86 / (1 + 0.7 / 4.86)) / 4
    assert torch.allclose(nlpd_map(a, b, 8), torch.full((1, 2, 2), expected), atol=1e-5)
    assert torch.allclose(nlpd_map(a, b, 16), torch.full((1, 1, 1), expected), atol=1e-5)


def test_bits_of_a_step_and_of_nothing():
    """A checkerboard of amplitude a: the Laplacian has a mean square of (8 a)^2 / 20."""
    v, u = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    for a in (0.0, 0.1):
        board = 0.3 + a * (1.0 - 2.0 * ((u + v) % 2))[None, None].expand(1, 3, -1, -1)
        energies = (64 * a**2 / 20, a**2)
        eps = 0.05**2
        bits = [math.log1p(e / eps) / math.log1p(1 / eps) for e in energies]
        inner = no_reference(board)[:, 1:-1, 1:-1]
        assert torch.allclose(inner, torch.full((1, 2, 2), sum(bits) / 2), atol=1e-5)


def test_a_sample_alone(pictures):
    x, y = pictures
    alone = torch.cat([full_reference(x[b : b + 1], y[b : b + 1]) for b in range(2)])
    assert torch.allclose(full_reference(x, y), alone, atol=1e-6)


@pytest.mark.parametrize("block", [4, 12, 16])
def test_blocks_that_do_not_fit(block):
    with pytest.raises(ValueError, match=f"40x24 pixels and the blocks {block}"):
        full_reference(torch.zeros(1, 3, 24, 40), torch.zeros(1, 3, 24, 40), block)
