"""Blind deconvolution: pieces against what is known, and a small picture from end to end."""

from dataclasses import replace

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from node_calls import call

from undegrade.headless.blueprints import JOBS
from undegrade.nodes.comfyui import host
from undegrade.pipelines.blind import kernel_estimation
from undegrade.pipelines.blind.blur_estimate import BlurEstimate, busiest, noise_of_blurred
from undegrade.pipelines.blind.kernel_estimation import sides
from undegrade.pipelines.blind.kernel_kinds import REACH, Shape, nearest_shape
from undegrade.pipelines.blind.kernel_update import (
    GradientFit,
    centred,
    correlation,
    enlarged,
    islands,
    kernel_of,
    tidied,
)
from undegrade.pipelines.blind.seen import inside, unreached
from undegrade.pipelines.blind.spectrum import likeliest, spectrum_of
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.canvas import upsample
from undegrade.pipelines.operators.motion_blur import RandomMotionBlur


def shapes(side: int, seed: int = 0) -> torch.Tensor:
    """Flat rectangles over each other, (1, 3, side, side): edges everywhere."""
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(1, 3, side, side)
    for _ in range(60):
        top, left = (int(n) for n in torch.randint(0, side - 6, (2,), generator=g))
        height, width = (int(n) for n in torch.randint(5, side // 3, (2,), generator=g))
        colour = 1.6 * torch.rand(3, 1, 1, generator=g) - 0.8
        x[0, :, top : top + height, left : left + width] = colour
    return x


def grey(side: int = 96) -> torch.Tensor:
    return shapes(side).mean(1, keepdim=True)


def walk(side: int = 9) -> torch.Tensor:
    return RandomMotionBlur(side=side, intensity=0.8, seed=4).kernel()


def test_the_kernel_of_a_known_picture_is_found_whatever_lies_beyond_its_border():
    x, k = grey(), walk()
    y = KernelBlur(border="circular", weights=k)(x)
    fit = GradientFit(x, y, 11)
    start = torch.full((11, 11), 1 / 121)
    found = kernel_of(fit, start, 0.0, 200)
    assert correlation(found, k) > 0.999 and fit.misfit(found) < 1e-3 < fit.misfit(start)
    assert float(found.min()) >= 0 and float(found.sum()) == pytest.approx(1, abs=1e-5)


def test_blurring_and_its_transpose_belong_together():
    fit = GradientFit(grey(40), grey(40).flip(-1), 5, (torch.rand(1, 1, 39, 39) > 0.2).float())
    k, e = torch.rand(5, 5), torch.randn(1, 2, 39, 39)
    assert float((fit.blur(k) * e).sum()) == pytest.approx(float((k * fit.adjoint(e)).sum()), 1e-4)


def test_pixels_that_are_not_seen_do_not_matter():
    x, k = grey(), walk()
    y = KernelBlur(weights=k)(x)
    seen = torch.ones(1, 1, 95, 95)
    seen[..., 30:60, 30:60] = 0
    spoilt = y.clone()
    spoilt[..., 32:58, 32:58] = 1
    start = torch.full((9, 9), 1 / 81)
    whole, without = (GradientFit(x, v, 9, seen) for v in (y, spoilt))
    torch.testing.assert_close(
        kernel_of(whole, start, 0.0, 20), kernel_of(without, start, 0.0, 20), atol=1e-5, rtol=0
    )
    assert correlation(kernel_of(GradientFit(x, spoilt, 9), start, 0.0, 20), k) < 0.98


@pytest.mark.parametrize(
    "shape",
    [
        Shape("straight motion", 9.0, 30.0),
        Shape("out of focus", 4.0),
        Shape("Gaussian", 2.0),
    ],
    ids=lambda s: s.kind,
)
def test_shapes_are_told_by_their_spectrum(shape):
    """Among all kinds; and the true kernel is the likelier, the nearer it is looked at."""
    x = torch.from_numpy(skimage.data.astronaut()[:144, 160:304]).permute(2, 0, 1)[None]
    y = KernelBlur(weights=shape.kernel(17), border="replicate")(x / 127.5 - 1)
    spectrum = spectrum_of(y + 0.01 * per_sample_noise([1])(y), 0.01)
    told = {kind: likeliest(spectrum, kind, 17) for kind in REACH}
    assert max(told, key=lambda kind: told[kind][1]) == shape.kind
    found, likelihood = told[shape.kind]
    assert found.size == pytest.approx(shape.size, abs=0.3)
    assert abs((found.angle - shape.angle + 90) % 180 - 90) < 4
    other = Shape(shape.kind, 1.3 * shape.size, shape.angle)
    assert likelihood > spectrum.likelihood(other.kernel(17)) + 0.01
    looks, alike = nearest_shape(shape.kernel(17), 17)
    assert looks.kind == shape.kind and alike > 0.97


def test_islands_small_values_and_an_eccentric_place_go():
    k = torch.zeros(9, 9)
    k[1, 1:4] = 1.0
    k[2, 4] = 0.5  # joined at a corner
    k[7, 7] = 0.05
    k[4, 4] = 0.01
    assert len(islands(k > 0).unique()) == 4  # three of them, and what lies between
    left = centred(tidied(k, 0.03, 0.03))
    assert int((left > 0).sum()) == 4 and float(left.sum()) == pytest.approx(1)
    axis = torch.arange(9.0) - 4
    for d in (0, 1):
        assert abs(float(left.sum(d) @ axis)) <= 0.5


def test_scales_and_moves_keep_the_light():
    k = walk()
    larger = enlarged(k, 15)
    assert larger.shape == (15, 15) and float(larger.sum()) == pytest.approx(1)
    moved = torch.roll(F.pad(k, (4, 4, 4, 4)), (2, -3), (0, 1))
    torch.testing.assert_close(centred(moved), centred(F.pad(k, (4, 4, 4, 4))))
    assert correlation(moved, k) == pytest.approx(1, abs=1e-5)
    assert sides(31)[0] == 3 and sides(31)[-1] == 31 and all(n % 2 for n in sides(31))


@pytest.fixture
def quick(monkeypatch):
    """A few rounds of everything."""
    for name in ("COARSE", "FINE", "LAST"):
        few = replace(getattr(kernel_estimation, name), rounds=6)
        monkeypatch.setattr(kernel_estimation, name, few)


def test_clipped_lights_and_what_they_reach_are_left_out():
    clipped = torch.zeros(1, 1, 64, 64)
    clipped[..., 20, 30] = 1
    seen = unreached(clipped, 9)
    assert float(seen[..., 16:25, 26:35].sum()) == 0 and float((1 - seen).sum()) == 81
    clipped[..., ::8, ::8] = 1  # too many: only their neighbours go
    assert float((1 - unreached(clipped, 9)).sum()) < 0.2 * 64 * 64
    with pytest.raises(ValueError, match="clipped everywhere"):
        unreached(torch.ones(1, 1, 64, 64), 9)


def test_noise_that_a_camera_smoothed_counts():
    """Its finest pixels alone read .004: the blur was undone in the noise."""
    skin = skimage.data.coffee()[100:228, 100:228]
    x = F.avg_pool2d(torch.from_numpy(skin).movedim(2, 0)[None].float() / 127.5 - 1, 7, 1, 3)
    n = F.avg_pool2d(3 * 0.04 * per_sample_noise([0])(x), 3, 1, 1)
    assert noise_of_blurred(x) < 0.01 and 0.035 < noise_of_blurred(x + n) < 0.14


def test_the_window_with_most_structure_is_read():
    y = torch.zeros(1, 3, 128, 160)
    y[..., 64:, 96:] = shapes(64)
    rows, columns = busiest(y, torch.ones(1, 1, 128, 160), 64)
    assert (rows, columns) == (slice(64, 128), slice(96, 160))


def test_a_clipped_pixel_is_a_bound_and_the_rim_no_part_of_the_operator():
    clipped = torch.zeros(1, 3, 32, 32)
    clipped[:, 0, 15, 15] = 1
    known = BlurEstimate(walk(), 0.01, 0.9, clipped, "a path", True, False)
    assert known.operator.bounded and not replace(known, blurred=False).operator.bounded
    assert known.operator.residual(-torch.ones(1, 3, 32, 32))[0, :, 15, 15].tolist() == [0, -1, -1]
    assert not known.operator(torch.ones(1, 3, 32, 32))[..., 0].any()
    assert "0.1 % is clipped" in known.report


@pytest.mark.parametrize(
    ("confidence", "varies", "word", "right"),
    [(0.9, False, None, 9), (0.7, False, None, 6), (0.4, False, "Doubtful", 3),
     (0.1, True, "Parts of the picture", 3)],
)
def test_what_is_doubtful_is_said_and_the_command_stops(confidence, varies, word, right):
    known = BlurEstimate(
        walk(), 0.01, confidence, torch.zeros(1, 1, 32, 32), "a path", True, varies
    )
    (against,) = JOBS["sharpen"].nothing.values()
    said = against([[], [], [], [], [known.report]])
    assert (word in known.report and word in said) if word else not said
    assert f"(at which {right} of 10 kernels were right)" in known.report


def test_the_rim_is_half_as_wide_as_the_kernel_reaches_beyond():
    k = torch.zeros(9, 9)
    k[4, 4] = k[8, 4] = k[4, 2] = 1.0  # reads 4 pixels above and 2 to the right
    x = torch.zeros(1, 1, 20, 24)
    x[..., 0, :], x[..., -1] = 1.0, 2.0
    seen = inside(k, 20, 24)
    assert int((seen == 0).sum()) == 20 * 24 - 18 * 23
    assert float(seen[..., :2, :].sum()) == 0 and float(seen[..., -1].sum()) == 0
    inner = KernelBlur(weights=k)(x)
    assert float(inner[..., 5:, :21].abs().sum()) == pytest.approx(0, abs=1e-4)  # reads no border
    assert float(inner[..., 3, 0]) > 0.3 and float(inner[..., 9, 22]) > 0.6


def test_what_is_left_out_costs_no_quick_way_of_the_coarse_levels():
    known = BlurEstimate(walk(), 0.01, 0.9, torch.zeros(1, 1, 32, 48), "a path", True, False)
    quick = known.operator.upsampled(2)
    x = shapes(24)[..., :16, :]
    assert quick is not None and float((quick(x) == 0).sum()) > 0
    torch.testing.assert_close(quick(x), known.operator(upsample(x, 2)), atol=1e-5, rtol=0)


def estimated(x, k, **given):
    y = KernelBlur(weights=k)(x)
    y = y + 0.01 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    prior = call("UndegradeLoadPixelPrior")[0]
    image = ((y + 1) / 2).clamp(0, 1).movedim(1, -1)
    given = {"kernel_size": 9, "noise_level": 0.012, **given}
    return call("UndegradeEstimateBlurKernel", prior=prior, image=image, **given)


def test_a_small_picture_from_end_to_end(quick):
    k = walk()
    shown, operator, level, confidence, report = estimated(shapes(64), k)
    assert correlation(shown[0, ..., 0], k) > 0.9 > correlation(torch.ones(1, 1), k)
    assert level == 0.012 and 0 <= confidence <= 1 and "noise 0.012, 1.5 of 255;" in report
    assert correlation(operator.operators[0].kernel(), k) > 0.9


def test_a_sharp_picture_is_left_alone(quick, monkeypatch):
    bars = []
    monkeypatch.setattr(host, "_sink", lambda _, value, total: bars.append(total - value))
    _, operator, *_, report = estimated(shapes(64), torch.ones(1, 1), kernel_size=5)
    assert report.startswith("no blur")
    assert bars[-1] == 0, "its bar is full without a round of refining"
    x = shapes(64)
    torch.testing.assert_close(operator(x), x, atol=1e-5, rtol=0)


def test_what_it_does_not_take():
    prior = call("UndegradeLoadPixelPrior")[0]
    image = torch.rand(1, 48, 60, 3)
    with pytest.raises(ValueError, match="60x48 pixels, and kernel_size 31 needs 93"):
        call("UndegradeEstimateBlurKernel", prior=prior, image=image)
    with pytest.raises(ValueError, match="batch of 2 pictures"):
        call("UndegradeEstimateBlurKernel", prior=prior, image=torch.cat([image, image]))
    with pytest.raises(ValueError, match="kernel_size is 8; give an odd number such as 9"):
        call("UndegradeEstimateBlurKernel", prior=prior, image=image, kernel_size=8)
