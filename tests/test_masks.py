"""Masks: how many pixels they hide, where, and that a seed's mask is the official one."""

import hashlib
import pickle

import numpy as np
import pytest
import torch

from undegrade.pipelines.degradation.masks import BoxMask, RandomMask, random_mask
from undegrade.pipelines.operators.inpainting import Inpainting

OFFICIAL = "f3a711734056464ff366f236ed7c5cb366822d5f31154533b1f80d7ebb29de5c"


def test_official_mask_of_picture_0():
    """The official code's mask for 0.png at 256x256, 70 % hidden: all 65536 pixels."""
    seen = RandomMask().seen(256, 256, seed=0)
    assert seen.shape == (1, 1, 256, 256)
    assert int((seen == 0).sum()) == 45875
    assert hashlib.sha256(np.packbits(seen.numpy() == 1).tobytes()).hexdigest() == OFFICIAL


@pytest.mark.parametrize("size", [(37, 31), (1, 1), (1, 9)])
@pytest.mark.parametrize("fraction", [0.0, 0.29, 0.7, 0.999])
def test_random_masks_hide_exactly_what_was_asked(size, fraction):
    pixels = size[0] * size[1]
    for seed in (0, 2**32 + 1, 2**64 - 1):
        seen = random_mask(*size, fraction, seed)
        assert seen.shape == (1, 1, *size)
        assert seen.dtype == torch.float32
        assert ((seen == 0) | (seen == 1)).all()
        assert int((seen == 0).sum()) == int(pixels * fraction)
        assert torch.equal(seen, RandomMask(fraction).seen(*size, seed))
        Inpainting(seen)


def test_rounding_error_does_not_cost_a_pixel():
    assert int(100 * 0.29) == 28
    assert int((random_mask(10, 10, 0.29, 1) == 0).sum()) == 29


def test_seeds_differ_and_the_global_generators_are_left_alone():
    torch_before, numpy_before = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    masks = [random_mask(37, 31, 0.5, seed) for seed in (0, 1, 2**32, 2**32 + 1, 2**63)]
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert pickle.dumps(np.random.get_state()) == numpy_before
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.3 < (a != b).float().mean() < 0.7


def test_hidden_pixels_are_spread_evenly():
    seen = random_mask(200, 200, 0.7, 5)[0, 0]
    quarters = seen.unflatten(0, (2, 100)).unflatten(2, (2, 100)).mean((1, 3))
    assert (quarters - 0.3).abs().max() < 0.02


def test_official_box():
    """The centred half: rows and columns 64 to 191 of 256."""
    expected = torch.ones(1, 1, 256, 256)
    expected[..., 64:192, 64:192] = 0
    assert torch.equal(BoxMask().seen(256, 256), expected)


def test_box_stands_where_it_was_put():
    hidden = 1 - BoxMask(width=0.25, height=0.5, x=1.0, y=0.0).seen(37, 31)[0, 0]
    assert hidden.sum() == 18 * 7
    assert hidden[:18, 24:].all()
    for x in (0.0, 0.3, 1.0):
        for y in (0.0, 0.9, 1.0):
            assert (BoxMask(0.4, 0.3, x, y).seen(37, 31) == 0).sum() == 12 * 11
    assert BoxMask(width=0.0).seen(5, 5).all()
    assert (BoxMask(width=1.0, height=0.2).seen(10, 10) == 0).sum() == 20


def test_refusals():
    with pytest.raises(ValueError, match="The box hides all of 6x4 pixels; give a width or height"):
        BoxMask(width=1.0, height=1.0).seen(4, 6)
    with pytest.raises(ValueError, match=r"hidden is 1.0; give a number in \[0.0, 0.999\]"):
        RandomMask(1.0)
    with pytest.raises(ValueError, match="x is nan; give a finite number"):
        BoxMask(x=float("nan"))
