"""Reduction by any factor, of any size: wide pictures, and sizes that a factor does not divide."""

import math

import pytest

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.degradation.measurement import DegradeImage, MeasurementFromImage
from undegrade.nodes.images import to_image
from undegrade.nodes.posterior.sampler import PosteriorSampler
from undegrade.pipelines.operators.downscale import Downscale


def gap(result, expected):
    assert result.shape == expected.shape
    return (result - expected).abs().max().item()


@pytest.mark.parametrize("factor", [1.5, 4])
def test_wide_reductions_go_by_blocks_of_their_matrix(factor, draw):
    operator, x = Downscale(factor), draw(1, 2, 37, 601)
    y, adjoint = operator.vjp(x)
    rows, columns = (m.float() for m in operator.matrices(37, 601))
    assert y.shape[-1] == math.floor(601 / factor + 0.5)
    assert gap(y, rows @ x @ columns.T) < 1e-6
    assert gap(adjoint(y), rows.T @ y @ columns) < 1e-6
    assert len(operator.constant((601, x.dtype, x.device, False), lambda: None).blocks) > 1


@pytest.mark.parametrize("factor", [1.5, 4.0])
def test_a_picture_keeps_a_size_that_the_factor_does_not_divide(factor, draw):
    image = to_image(0.3 * draw(1, 3, 37, 33))
    small, measurement = DegradeImage().degrade(image, Downscale(factor), 0.05, 1)
    assert small.shape[1:3] == (round(37 / factor), round(33 / factor))
    prior = load_pixel_prior(BUILT_IN)
    options = {"steps": 2, "sigma_max": 1.0, "sigma_min": 0.0, "renoise": 0.9, "ode_steps": 1}
    restored, _ = PosteriorSampler().sample(prior, measurement, 1, 1, False, **options)["result"]
    assert restored.shape == image.shape


def test_a_small_picture_becomes_as_large_as_the_factor_says(draw):
    small = to_image(0.3 * draw(1, 3, 7, 6))
    (measurement,) = MeasurementFromImage().declare(small, Downscale(2.5), 0.05)
    assert measurement.image_size == (18, 15)  # 17.5 and 15
