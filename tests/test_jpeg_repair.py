"""Repairing JPEG: the measurement update comes nearer the picture and does not run away."""

import pytest
import torch

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient


def shapes() -> torch.Tensor:
    """A smooth picture with edges, (1, 3, 64, 64) in [-1, 1]."""
    v, u = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    disc = ((u**2 + v**2) < 0.4).float()
    return torch.stack([0.8 * disc - 0.4, 0.5 * u * (1 - disc), 0.6 * (u + v > 0.3) - 0.3])[None]


@pytest.mark.parametrize("iterations", [1, 10, 40])
def test_the_update_lowers_its_function_however_long_it_runs(iterations):
    x0 = shapes()
    m = Measurement(JPEG(quality=10)(x0), JPEG(quality=10), 0.05)
    x0_hat = x0 + 0.2 * per_sample_noise([1])(x0)
    rho = (0.05 / 0.2) ** 2

    def loss(z):
        fit, stay = (m.y - m.operator(z)).square().sum(), (z - x0_hat).square().sum()
        return (fit + rho * stay).item()

    z = ConjugateGradient(iterations, tolerance=0.0)(x0_hat, 0.2, m)
    assert loss(z) < 0.7 * loss(x0_hat)


def test_a_run_is_nearer_the_truth_than_the_file():
    x0, prior = shapes(), load_pixel_prior(BUILT_IN)
    m = Measurement(JPEG(quality=10)(x0), JPEG(quality=10), 0.02)
    options = SamplerOptions(steps=12, sigma_max=1.0)
    with torch.inference_mode(), left():
        schedule = schedule_for(prior, options)
        noise = per_sample_noise([0])
        *_, last = restore(prior, m, schedule, ConjugateGradient(), noise, renoise=0.9)
    assert psnr(last.x0_hat, x0).item() > psnr(m.y, x0).item() + 1
