"""The polyphase blur is the enlargement followed by the blur."""

import pytest
import torch

from undegrade.models.prior import GaussianPrior, MultiResolutionPrior
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.banded import banded
from undegrade.pipelines.operators.blur import GaussianBlur, KernelBlur
from undegrade.pipelines.operators.canvas import NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.framing import fold_matrix, folded
from undegrade.pipelines.operators.upsampled_blur import UpsampledBlur
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import level_operator, restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient


def blur(side: int, border: str = "replicate") -> KernelBlur:
    weights = torch.rand(side, side, generator=torch.Generator().manual_seed(side))
    return KernelBlur(border=border, weights=weights)


@pytest.mark.parametrize("size", [(9, 7), (5, 6), (1, 1), (1, 8), (16, 16)])
@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("side", [1, 3, 11, 61])
def test_it_is_enlarging_and_then_blurring(draw, size, factor, side):
    x = draw(2, 3, *size, dtype=torch.float64)
    one = UpsampledBlur(blur(side).kernel().double(), factor)
    two = Compose((NearestUpsample(factor), blur(side)))
    (y, adjoint), (expected, its_adjoint) = one.vjp(x), two.vjp(x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    u = draw(*y.shape, dtype=torch.float64)
    torch.testing.assert_close(adjoint(u), its_adjoint(u), rtol=0, atol=1e-11)


def test_only_blurs_without_a_quicker_way_take_it():
    assert isinstance(blur(5).upsampled(2), UpsampledBlur)
    assert blur(5, "circular").upsampled(2) is None and GaussianBlur().upsampled(2) is None


def test_a_run_at_three_levels_is_the_same_with_and_without_it(draw, monkeypatch):
    m = Measurement(draw(1, 3, 16, 24), blur(7), 0.05)
    prior = MultiResolutionPrior(GaussianPrior())
    schedule = schedule_for(prior, SamplerOptions(steps=9))

    def run():
        return [*restore(prior, m, schedule, ConjugateGradient(), per_sample_noise([1]))][-1].x0_hat

    assert isinstance(level_operator(m, (16, 24), 4), UpsampledBlur)
    quick = run()
    monkeypatch.setattr(KernelBlur, "upsampled", lambda self, factor: None)
    assert isinstance(level_operator(m, (16, 24), 4), Compose)
    torch.testing.assert_close(quick, run(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("border", ["replicate", "reflect"])
def test_two_products_fold_a_frame(draw, border):
    frame = draw(2, 3, 20, 25).double()
    rows, columns = (
        banded(fold_matrix(n, 4, border, size), frame) for n, size in ((9, 20), (14, 25))
    )
    expected = folded(frame[..., :17, :22], 4, border)
    assert (rows.on_rows(columns.on_columns(frame)) - expected).abs().max() < 1e-12
