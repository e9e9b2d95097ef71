"""The start's noise: tiles of a predictor blended, one draw for the picture, and the timesteps."""

import pytest
import torch
from start_noises import ClosedForm, latent_predictor

from undegrade.pipelines.invsr import start_noise
from undegrade.pipelines.invsr.start_noise import StartNoiseOptions, calls_of, predict_start
from undegrade.pipelines.invsr.steps import PUBLISHED, InversionSteps, warning
from undegrade.pipelines.noise import per_sample_noise

LEVEL = 0.4


def whole(predictor, lr):
    with torch.inference_mode():
        return predict_start(predictor, lr, LEVEL, tile=0)


@pytest.mark.parametrize("make", [latent_predictor, ClosedForm])
@pytest.mark.parametrize(("height", "width"), [(37, 31), (8, 8), (80, 49), (16, 100)])
def test_tiles_of_a_local_predictor_give_its_maps(make, height, width, draw):
    """A predictor that looks no further than a pixel cannot tell that it sees tiles."""
    predictor, lr = make(slope=1.0), draw(3, 3, height, width)
    kept = lr.clone()
    mean, std = whole(predictor, lr)
    with torch.inference_mode():
        tiled = predict_start(predictor, lr, LEVEL, tile=32, overlap=16)
    ratio = predictor.scale / predictor.factor
    size = (int(ratio * height), int(ratio * width))
    assert mean.shape == std.shape == (3, predictor.channels, *size)
    assert (tiled[0] - mean).abs().max() < 1e-6 and (tiled[1] - std).abs().max() < 1e-6
    assert torch.equal(lr, kept) and mean.is_contiguous() and mean.std() > 0.01


def test_what_lies_beyond_the_picture_is_its_reflection(draw):
    predictor, lr = latent_predictor(slope=1.0), draw(1, 3, 32, 32)
    with_border = torch.cat([lr, lr.flip(-1)], -1)
    cropped = whole(predictor, with_border[..., :40])
    padded = whole(predictor, with_border[..., :48])
    assert cropped[0].shape[-1] == 20
    seen = predictor.calls[0][0]
    assert seen == (1, 3, 32, 48), "40 columns continued to 48"
    assert torch.equal(cropped[0], padded[0][..., :20])


def test_every_picture_and_tile_is_a_call_of_its_own(draw):
    predictor, lr = latent_predictor(), draw(3, 3, 40, 70)
    predict_start(predictor, lr, LEVEL, tile=32, overlap=16)
    assert len(predictor.calls) == calls_of(predictor, lr, 32, 16) == 3 * 2 * 4
    assert {shape for shape, _ in predictor.calls} == {(1, 3, 32, 32)}
    assert all(level == [pytest.approx(LEVEL)] for _, level in predictor.calls)


def test_a_large_picture_takes_sixteen_tiles_and_a_small_one_none():
    chosen = StartNoiseOptions()
    tiles = (chosen.tile, chosen.overlap)
    assert calls_of(latent_predictor(), torch.zeros(1, 3, 512, 512), *tiles) == 16
    assert calls_of(latent_predictor(), torch.zeros(2, 3, 160, 150), *tiles) == 2
    assert calls_of(latent_predictor(), torch.zeros(1, 3, 512, 512), 0, 0) == 1


def test_a_tile_shifted_to_the_border_meets_its_maps(draw):
    """48 + 2 columns: tiles start at 0, 16 and 32 of 64 columns, their maps at half of that."""

    class Numbered(ClosedForm):
        def predict(self, lr, sigma):
            mean, std = super().predict(lr, sigma)
            return mean, std * (1 + len(self.calls))

    predictor = Numbered(channels=4, factor=8, multiple_of=16)
    _, std = predict_start(predictor, draw(1, 3, 16, 80), LEVEL, tile=48, overlap=16)
    assert len(predictor.calls) == 2
    assert torch.allclose(std[..., :8], torch.full((), 1.0)), "the first tile alone"
    assert torch.allclose(std[..., 24:], torch.full((), 1.5)), "the second alone, from 32 of 80"
    assert bool(((std[..., 16:24] > 1.0) & (std[..., 16:24] < 1.5)).all())


def test_the_noise_is_drawn_once_and_overlaps_lose_none(draw):
    """Averaging independent noise of tiles, as the official code does, would halve its power."""
    predictor, lr = ClosedForm(bias=0.3, std=0.7), draw(1, 3, 64, 64)
    mean, std = predict_start(predictor, lr, LEVEL, tile=32, overlap=16)
    n = noise_of(mean, std, 1.0)
    eps = per_sample_noise([5])(mean)
    assert torch.equal(n, mean + std * eps)
    assert (n[..., 64:128].std() - 0.7).abs() < 0.01
    assert torch.equal(noise_of(mean, std, 0.0), mean)
    assert torch.allclose(noise_of(mean, std, 2.0) - mean, 2 * (n - mean), atol=1e-6)


def noise_of(mean, std, strength):
    return start_noise.draw(mean, std, per_sample_noise([5]), strength)


def test_the_weight_falls_over_the_overlap():
    weight = start_noise.ramp_weight(10, 4)
    assert weight.tolist() == [0.125, 0.375, 0.625, 0.875, 1, 1, 0.875, 0.625, 0.375, 0.125]
    assert start_noise.ramp_weight(5, 0).tolist() == [1.0] * 5
    assert torch.allclose(weight[:4] + weight[-4:], torch.ones(()).double()), "neighbours add up"


@pytest.mark.parametrize(
    ("size", "level", "tiles", "said"),
    [
        ((7, 40), LEVEL, (0, 0), "has 40x7 pixels; give one with sides of at least 8"),
        ((64, 64), 0.72, (0, 0), "noise level of 0.72, but closed form was .* up to 0.7;"),
        ((64, 64), 0.0, (0, 0), "noise level of 0,"),
        ((64, 64), float("nan"), (0, 0), "noise level of nan"),
        ((64, 64), LEVEL, (40, 16), "tile is 40 and the overlap 16 pixels; give multiples of 16"),
        ((64, 64), LEVEL, (32, 8), "tile is 32 and the overlap 8 pixels; give multiples of 16"),
        ((64, 64), LEVEL, (32, 32), "overlap smaller than the tile"),
    ],
)
def test_bad_input(size, level, tiles, said):
    with pytest.raises(ValueError, match=said):
        predict_start(latent_predictor(), torch.zeros(1, 3, *size), level, *tiles)


# Timesteps


@pytest.mark.parametrize(
    ("chosen", "times"),
    [
        ({}, (200,)),
        ({"steps": 2}, (200, 100)),
        ({"steps": 3}, (200, 100, 50)),
        ({"steps": 4}, (200, 150, 100, 50)),
        ({"steps": 5}, (250, 200, 150, 100, 50)),
        ({"steps": 6}, (250, 208, 166, 125, 83, 41)),
        ({"steps": 1, "start_timestep": 100}, (100,)),
        ({"steps": 5, "start_timestep": 100}, (100, 80, 60, 40, 20)),
        ({"steps": 3, "start_timestep": 200}, (200, 133, 66)),
        ({"steps": 250, "start_timestep": 250}, tuple(range(250, 0, -1))),
        ({"steps": 5, "timesteps": " 200,150, 100 "}, (200, 150, 100)),
    ],
)
def test_timesteps(chosen, times):
    assert InversionSteps(**chosen).times() == times


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"timesteps": "100, 200"}, "timesteps are 100, 200; give whole numbers that fall"),
        ({"timesteps": "100, 100"}, "whole numbers that fall"),
        ({"timesteps": "100, 0"}, "end at 1 or more"),
        ({"timesteps": "300, 100"}, "300, 100 start above 250, with more noise"),
        ({"timesteps": "200; 100"}, "write whole numbers between commas"),
        ({"timesteps": "200.5"}, "write whole numbers between commas"),
        ({"steps": 20, "start_timestep": 10}, "whole numbers that fall"),
        ({"steps": 251}, "steps is 251"),
        ({"start_timestep": 251}, "start_timestep is 251"),
    ],
)
def test_refused_timesteps(chosen, said):
    with pytest.raises(ValueError, match=said):
        InversionSteps(**chosen).times()


def test_only_untrained_starts_are_warned_of():
    assert not any(warning(times[0]) for times in PUBLISHED.values())
    assert "not trained to start at timestep 180" in warning(180)
