"""The kernel that a search found: refined by the prior, and what speaks against it."""

import pytest
import torch
import torch.nn.functional as F
from node_calls import call
from test_blind import grey, shapes, walk

from undegrade.headless.blueprints import JOBS
from undegrade.pipelines.blind import blur_estimate, refining
from undegrade.pipelines.blind.blur_estimate import BlurEstimate, check_size
from undegrade.pipelines.blind.doubts import doubts, reach
from undegrade.pipelines.blind.kernel_estimation import Found, Level
from undegrade.pipelines.blind.kernel_kinds import Shape
from undegrade.pipelines.blind.kernel_update import (
    GradientFit,
    correlation,
    kernel_of,
    path_of,
    penned,
)
from undegrade.pipelines.blind.refining import refined
from undegrade.pipelines.blind.sharp_picture import drawn, explained
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur


def test_edges_of_one_direction_and_a_kernel_that_fills_its_square_are_doubted():
    y = shapes(96) + 0.03 * per_sample_noise([0])(torch.zeros(1, 3, 96, 96))
    small, long = (F.pad(k, (n, n, n, n)) for k, n in ((walk(9), 6), (torch.eye(17), 2)))
    assert reach(small)[0] <= 9 and reach(long) == (17, 17)

    def against(y, k):
        return doubts(Level(y, torch.zeros(1, 1, 96, 96), torch.ones(1, 1, 96, 96), 21, 1.0), k,
                      0.03)

    assert against(y, small) == []
    (said,) = against(y, long)
    assert "fills its square" in said
    columns = y.mean(-2, keepdim=True).expand(-1, -1, 96, -1)
    columns = columns + 0.03 * per_sample_noise([1])(y)
    (said,) = against(columns, small)
    assert "one direction" in said
    (said,) = against(0.1 * y + 0.03 * per_sample_noise([1])(y), small)  # drowned
    known = BlurEstimate(small, 0.03, 0.5, torch.zeros(1, 1, 96, 96), "a path", True, False,
                         (said,))
    assert said in known.report and said in JOBS["sharpen"].nothing[
        "UndegradeEstimateBlurKernel"]([[], [], [], [], [known.report]])


def test_a_pen_draws_no_path_thinner_than_itself_and_its_path_is_found_again():
    path = torch.zeros(13, 13)
    path[[3, 4, 5, 6, 7, 8], [3, 4, 6, 7, 7, 9]] = torch.tensor([1.0, 3, 2, 2, 4, 1]) / 13
    k = penned(path)
    assert float(k.max()) < float(path.max()) and float(k.sum()) == pytest.approx(1)
    assert correlation(path, k) < 0.99 < 0.999 < correlation(path_of(k), path)
    assert correlation(penned(path_of(k)), k) > 0.999
    x = grey(64)
    y = KernelBlur(border="circular", weights=k)(x)
    fit, start = GradientFit(x, y, 13), torch.full((13, 13), 1 / 169)
    assert correlation(kernel_of(fit.of_paths(), start, 0.0, 400), path) > 0.99


def halfway(side):
    """A blurred picture's only level, its kernel, and one that is too thin."""
    wide = F.pad(Shape("out of focus", 2.5).kernel(7), (4, 4, 4, 4))
    y = KernelBlur(weights=wide)(shapes(side)) + 0.01 * per_sample_noise([0])(shapes(side))
    level = Level(y, torch.zeros(1, 1, side, side), torch.ones(1, 1, side, side), 15, 1.0)
    thin = F.pad(Shape("out of focus", 1.5).kernel(5), (5, 5, 5, 5))
    return level, wide, thin


def test_a_kernel_is_refined_towards_the_truth_and_the_true_one_hardly_moves():
    level, wide, thin = halfway(96)
    prior, noises = call("UndegradeLoadPixelPrior")[0], drawn(per_sample_noise([1]), level.y)
    with torch.no_grad():
        better, left = refined(prior, level, thin, 0.01, noises, 2)
        assert correlation(better, wide) > correlation(thin, wide) + 0.05
        assert left < explained(prior, level, thin, 0.01, noises)[0]
        same, _ = refined(prior, level, wide, 0.01, noises, 1)
        assert correlation(same, wide) > 0.97  # the price of a round that is given
        assert torch.equal(refined(prior, level, thin, 0.01, noises, 0)[0], thin)


def test_a_round_that_explains_less_is_not_kept(monkeypatch):
    level, _, thin = halfway(48)
    left = iter((0.5, 0.45, 0.4, 0.399, 0.2))
    fit = GradientFit(grey(48), grey(48), 15)
    monkeypatch.setattr(refining, "explained", lambda *_: (next(left), fit))
    monkeypatch.setattr(refining, "kernel_of", lambda fit, k, *_: torch.roll(k, 1, 0) + 0.01 * k)
    kernel, least = refined(None, level, thin, 0.01, [], 4)
    assert least == 0.4 and not torch.equal(kernel, thin)
    assert list(left) == [0.2]  # nothing more was tried
    left = iter((0.5, 0.4))
    kernel, least = refined(None, level, thin, 2.0, [], 4)  # all of it is noise
    assert least == 0.5 and torch.equal(kernel, thin)


def test_a_searched_path_is_given_rounds_that_explain_little_less(monkeypatch):
    level, _, thin = halfway(48)
    fit = GradientFit(grey(48), grey(48), 15)
    for lefts, kept in (((0.5, 0.51, 0.52, 0.515), 0.52), ((0.5, 0.51, 0.54), 0.51)):
        left = iter(lefts)
        monkeypatch.setattr(refining, "explained", lambda *_, left=left: (next(left), fit))
        kernel, least = refined(None, level, thin, 0.01, [], 4)
        assert least == kept and not torch.equal(kernel, thin) and list(left) == []


@pytest.mark.parametrize("shape", [Shape("straight motion", 7.0, 30.0), None], ids=str)
def test_a_shape_that_the_spectrum_finds_likelier_than_the_search_is_taken(monkeypatch, shape):
    """The spectrum knows a line from a wrong path, and no line for a right one."""
    k = F.pad(walk(9), (1, 1, 1, 1)) if shape is None else shape.kernel(11)
    y = KernelBlur(weights=k)(shapes(96)) + 0.01 * per_sample_noise([0])(shapes(96))
    level = Level(y, torch.zeros(1, 1, 96, 96), torch.ones(1, 1, 96, 96), 11, 1.0)
    searched = Found(F.pad(walk(9), (1, 1, 1, 1)), level)
    monkeypatch.setattr(blur_estimate, "search", lambda *_: searched)
    found = blur_estimate.found_blur([level], "any", 0.01, per_sample_noise([0]), lambda _: 0.4,
                                      lambda: None)
    assert correlation(found.kernel, k) > 0.98
    assert (found is searched) == (shape is None)
    if shape is not None:  # unless the prior's picture contradicts it
        left = iter((1e9, 0.4))
        found = blur_estimate.found_blur([level], "any", 0.01, per_sample_noise([0]),
                                         lambda _: next(left), lambda: None)
        assert found is searched


def test_a_picture_too_small_for_its_noise_is_refused_at_once():
    with pytest.raises(ValueError, match="30x28 pixels, and kernel_size 3 needs 32 pixels a side"):
        check_size(torch.zeros(1, 3, 28, 30), 3, 32)
    check_size(torch.zeros(1, 3, 28, 30), 9, 0)  # whose noise is given
