"""InvSR's sampler: sizes, batches, latents, tiles, and numbers that do not fit."""

import pytest
import torch
import torch.nn.functional as F
from start_noises import (
    ClosedForm,
    latent_predictor,
    latent_prior,
    levels,
    pixel_prior,
    result,
    run,
)

from undegrade.models.noise_table import stable_diffusion_sigmas
from undegrade.models.prior import GaussianPrior
from undegrade.pipelines.invsr.sampler import (
    bicubic,
    canvas_multiple,
    predicted,
    schedule_at,
    schedule_from,
    sides,
    tile_by_tile,
)

# Sizes, batches and latents


@pytest.mark.parametrize("size", [(37, 31), (8, 8), (9, 50), (16, 32)])
def test_any_size_and_latents(draw, size):
    lr = 0.5 * draw(2, 3, *size)
    for prior, predictor in (
        (pixel_prior(), ClosedForm(multiple_of=3)), (latent_prior(), latent_predictor())
    ):
        states = run(prior, predictor, lr, levels(0.7, 0.25))
        assert result(prior, states).shape == (2, 3, 4 * size[0], 4 * size[1])
        assert states[0].size == (4 * size[0], 4 * size[1])


def test_canvas_multiples():
    assert canvas_multiple(latent_prior(), latent_predictor()) == 16  # 8 x 8 / 4
    assert canvas_multiple(pixel_prior(16), ClosedForm()) == 4
    assert canvas_multiple(pixel_prior(1), ClosedForm()) == 1
    assert canvas_multiple(pixel_prior(10), ClosedForm(multiple_of=3)) == 15


def test_the_canvas_does_not_reach_the_picture(draw):
    """Far from its edge the picture is that of a prior that needs no canvas."""
    lr = 0.5 * draw(1, 3, 21, 18)
    wide, exact = (
        result(p, run(p, ClosedForm(slope=0.3), lr, levels(0.4), strength=0.0))
        for p in (pixel_prior(32), pixel_prior(1))
    )
    inner = (..., slice(0, 72), slice(0, 60))  # bicubic reads two pixels beyond
    assert torch.allclose(wide[inner], exact[inner], atol=1e-6)


def test_a_latent_run_is_the_latent_closed_form(draw):
    prior, lr = latent_prior(0.5), 0.5 * draw(1, 3, 16, 32)
    states = run(prior, latent_predictor(), lr, levels(0.7), strength=0.0)
    z = prior.codec.encode(bicubic(lr, 4))
    expected = 0.25 / (0.25 + 0.49) * (z + 0.7 * 0.2)
    assert (states[-1].x0_hat - expected).abs().max() < 1e-6
    assert torch.equal(result(prior, states), prior.codec.decode(states[-1].x0_hat))


@pytest.mark.parametrize("deterministic", [True, False])
def test_a_sample_does_not_depend_on_its_batch(draw, deterministic):
    lr, prior = 0.5 * draw(3, 3, 13, 11), pixel_prior()
    before = lr.clone()
    schedule, predictor = levels(0.7, 0.4, 0.2), ClosedForm(slope=0.5)
    together = run(prior, predictor, lr, schedule, [9, 10, 11], deterministic=deterministic)
    for b in range(3):
        alone = run(prior, predictor, lr[b : b + 1], schedule, [9 + b], deterministic=deterministic)
        assert torch.equal(together[-1].x0_hat[b : b + 1], alone[-1].x0_hat)
    assert torch.equal(lr, before)


def test_the_picture_is_enlarged_without_antialiasing_or_clipping(draw):
    lr = (draw(1, 3, 9, 8) > 0).float() * 2 - 1
    enlarged = bicubic(lr, 4)
    assert torch.equal(enlarged, F.interpolate(lr, scale_factor=4, mode="bicubic"))
    assert enlarged.max() > 1.01


# Tiles


def test_tiles_of_the_predictor_do_not_show(draw):
    """The noise is one draw for the whole picture, however it was predicted."""
    lr, prior, predictor = 0.5 * draw(2, 3, 40, 33), pixel_prior(), ClosedForm(slope=0.4)
    whole = run(prior, predictor, lr, levels(0.4))
    calls = len(predictor.calls)
    tiled = run(prior, predictor, lr, levels(0.4), tile=16, overlap=4)
    assert len(predictor.calls) > calls + 2
    assert (whole[-1].x0_hat - tiled[-1].x0_hat).abs().max() < 1e-6


def test_official_tiles_against_plain_loops(draw):
    """The published starts, OpenCV's kernel without its first tap, a sum and a division."""
    lr, tile, k = draw(2, 3, 20, 28), 8, 32
    scales = iter(torch.linspace(0.5, 2, 100).tolist())
    used = []

    def enlarge(part):
        used.append(next(scales))
        return used[-1] * F.interpolate(part, scale_factor=4, mode="nearest")

    ours = tile_by_tile(lr, 4, tile, tile // 2, enlarge)
    sigma = 0.3 * ((k - 1) * 0.5 - 1) + 0.8
    taps = torch.arange(k + 1, dtype=torch.float64) - k / 2
    weight = torch.exp(-taps.square() / (2 * sigma**2))[1:]
    weight = weight[:, None] * weight[None]
    total, mass, index = torch.zeros(2, 3, 80, 112).double(), torch.zeros(80, 112).double(), 0
    for top in (0, 4, 8, 12):
        for left in (0, 4, 8, 12, 16, 20):
            part = lr[..., top : top + 8, left : left + 8].double() * used[index]
            window = (..., slice(4 * top, 4 * top + k), slice(4 * left, 4 * left + k))
            total[window] += weight * F.interpolate(part, scale_factor=4, mode="nearest")
            mass[window] += weight
            index += 1
    assert index == len(used)
    assert (ours - total / mass).abs().max() < 1e-5


def test_official_tiles_of_a_picture_smaller_than_one(draw):
    lr = draw(1, 3, 9, 12)
    made = tile_by_tile(lr, 4, 16, 8, lambda part: F.interpolate(part, scale_factor=4))
    assert torch.equal(made, F.interpolate(lr, scale_factor=4))


# Numbers that do not fit


def test_sides():
    assert sides(37, 4.0, 4, False) == (37, 148)
    assert sides(37, 4.0, 4, True) == (37, 148)
    assert sides(37, 2.0, 4, False) == (37, 74)
    assert sides(37, 2.0, 4, True) == (19, 74)
    assert sides(37, 2.5, 4, False) == (37, 93)  # 92.5 goes up


def test_timesteps_are_counted_from_one():
    table = stable_diffusion_sigmas()
    schedule = schedule_at((250, 1), table)
    assert schedule.sigmas.tolist() == [table[249].item(), table[0].item(), 0.0]
    assert schedule.sigmas[0].item() == pytest.approx(0.693205, abs=1e-6)
    with pytest.raises(ValueError, match="this prior has 1 to 100"):
        schedule_at((200,), table[:100])
    with pytest.raises(ValueError, match="this prior has 1 to 1000"):
        schedule_at((0,), table)


@pytest.mark.parametrize("sigmas", [[0.5], [0.0], [0.5, 0.5, 0], [0.2, 0.5, 0], [0.5, 0.2],
                                    [float("nan"), 0], [0.5, -0.1, 0], []])
def test_noise_levels_that_do_not_fall(sigmas):
    with pytest.raises(ValueError, match="positive numbers that fall, and 0 after them"):
        schedule_from(torch.tensor(sigmas))


def test_a_predictor_of_another_space(draw):
    lr = draw(1, 3, 16, 16)
    for prior, predictor, said in (
        (pixel_prior(), latent_predictor(), "4 channels of 8x8, but the prior pixels works on 3"),
        (latent_prior(), ClosedForm(multiple_of=16), "3 channels of 64x64, but the prior latents"),
        (pixel_prior(), ClosedForm(channels=1), "1 channels of 64x64"),
        (pixel_prior(), ClosedForm(factor=2), "3 channels of 32x32, but the prior pixels works"),
    ):
        with pytest.raises(ValueError, match=said):
            predicted(prior, predictor, lr, 0.4)


def test_a_start_with_too_much_noise_and_a_picture_too_small(draw):
    with pytest.raises(ValueError, match=r"noise level of 0\.9"):
        predicted(pixel_prior(), ClosedForm(), draw(1, 3, 16, 16), 0.9)
    with pytest.raises(ValueError, match="7x16 pixels; give one with sides of at least 8"):
        predicted(pixel_prior(), ClosedForm(), draw(1, 3, 16, 7), 0.4)


def test_a_prediction_that_is_not_finite(draw):
    with pytest.raises(FloatingPointError, match=r"at noise level 0\.4;"):
        run(GaussianPrior(mean=float("nan")), ClosedForm(), draw(1, 3, 8, 8), levels(0.4, 0.2))
