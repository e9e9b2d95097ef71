"""The closed-form update against dense solves, at all noise levels and through all levels."""

import pytest
import torch
from dense_twins import asymmetric, dense, dense_minimum, random_mask

from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.canvas import Crop, NearestUpsample
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.hdr import HDRClip
from undegrade.pipelines.updates.conjugate_gradient import (
    ConjugateGradient,
)

EXACT = {
    "mask": (lambda: random_mask(1, 8, 12), (2, 8, 12)),
    "mask through levels": (
        lambda: Compose((NearestUpsample(2), Crop(8, 11), random_mask(1, 8, 11))),
        (1, 4, 6),
    ),
    "downscale": (lambda: Downscale(2), (1, 8, 12)),
    "downscale by any factor": (lambda: Downscale(1.5), (1, 7, 11)),
    "downscale through levels": (
        lambda: Compose((NearestUpsample(2), Crop(12, 20), Downscale(4))),
        (1, 8, 12),
    ),
    "circular": (lambda: asymmetric("circular"), (1, 7, 12)),
    "wide circular": (lambda: GaussianBlur(border="circular", std=3.0), (1, 9, 7)),
    "circular through levels": (
        lambda: Compose((NearestUpsample(2), GaussianBlur(border="circular", std=2.0))),
        (2, 5, 6),
    ),
    "two blurs": (lambda: Compose((asymmetric("circular"), asymmetric("circular"))), (1, 6, 5)),
}


@pytest.mark.parametrize("sigma", [80.0, 1.0, 0.05])
@pytest.mark.parametrize("name", EXACT)
def test_exact_solver_is_the_dense_minimum(draw, name, sigma):
    make, size = EXACT[name]
    operator, x0_hat = make(), draw(3, *size)
    y = operator(draw(3, *size))
    y = y + 0.05 * draw(*y.shape)
    x0_y = ConjugateGradient(solver="exact")(x0_hat, sigma, Measurement(y, operator, 0.05))
    expected = dense_minimum(dense(operator, size), y, x0_hat, (0.05 / sigma) ** 2)
    assert x0_y.dtype == torch.float32
    assert (x0_y - expected).abs().max() < 1e-5 * (1 + expected.abs().max())


def test_exact_solver_takes_one_mask_per_sample(draw):
    operator, x0_hat, y = random_mask(3, 6, 5), draw(3, 2, 6, 5), draw(3, 2, 6, 5)
    x0_y = ConjugateGradient(solver="exact")(x0_hat, 0.5, Measurement(y, operator, 0.2))
    rho = 0.2**2 / 0.5**2
    expected = torch.where(operator.seen > 0, (y + rho * x0_hat) / (1 + rho), x0_hat)
    assert torch.allclose(x0_y, expected, atol=1e-6)


@pytest.mark.parametrize(
    "operator",
    [
        asymmetric("replicate"),
        HDRClip(),
        Compose((Crop(6, 5), asymmetric("circular"))),
        Compose((random_mask(1, 6, 5), asymmetric("circular"))),
    ],
)
def test_exact_solver_says_where_there_is_no_closed_form(draw, operator):
    update = ConjugateGradient(solver="exact")
    said = r"no closed-form update on this canvas; .* Choose the solver 'conjugate gradient'\."
    with pytest.raises(ValueError, match=said):
        update(draw(1, 1, 6, 5), 1.0, Measurement(draw(1, 1, 6, 5), operator, 0.1))
