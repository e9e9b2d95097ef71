"""Noise levels of a region-adaptive run."""

import math

import pytest
import torch

from undegrade.models.noise_table import stable_diffusion_sigmas, timestep_of, vp_sigmas
from undegrade.models.prior import PriorSpec
from undegrade.pipelines.adadiffsr.base_grid import BaseGrid, half_sigma, uniform
from undegrade.pipelines.schedule import karras

SPEC = PriorSpec(sigma_min=0.01, sigma_max=80.0)


def test_stable_diffusions_noise_levels():
    table = stable_diffusion_sigmas()
    assert table[0].item() == pytest.approx(0.0292, abs=1e-4)
    assert table[-1].item() == pytest.approx(14.6146, abs=1e-3)
    assert half_sigma(SPEC) == table[500].item() == pytest.approx(1.62, abs=0.02)


def test_two_hundred_uniform_steps_are_intervals_of_five():
    table = stable_diffusion_sigmas()
    levels = BaseGrid(steps=200, start_sigma=0, spacing="uniform").sigmas(SPEC)
    torch.testing.assert_close(levels, table[torch.arange(999, 0, -5)])


def test_a_discrete_prior_keeps_its_own_timesteps():
    table = vp_sigmas()
    spec = PriorSpec(sigmas=table, sigma_max=table[-1].item(), sigma_min=table[0].item())
    levels = BaseGrid(steps=100, start_sigma=0, spacing="uniform").sigmas(spec)
    torch.testing.assert_close(levels, table[torch.arange(999, 0, -10)])
    assert half_sigma(spec) == table[500].item()


def test_a_lower_start_spaces_the_rest_evenly():
    table = stable_diffusion_sigmas()
    start = table[399].item()
    torch.testing.assert_close(uniform(80, start, table), table[torch.arange(399, 0, -5)])
    between = math.sqrt(table[300].item() * table[301].item())
    time = timestep_of(torch.tensor([between], dtype=torch.float64), table)
    assert time.item() == pytest.approx(300.5, abs=1e-6)
    assert uniform(10, between, table)[0].item() == pytest.approx(between, rel=1e-9)


def test_karras_runs_from_the_start_to_the_priors_end():
    grid = BaseGrid(steps=12, start_sigma=0.5)
    torch.testing.assert_close(grid.sigmas(SPEC), karras(12, 0.5, 0.01))
    assert BaseGrid(start_sigma=0.0).sigmas(SPEC)[0] == 80


def test_levels_the_prior_does_not_know():
    for grid, said in (
        (BaseGrid(start_sigma=100.0), "start_sigma is 100 and prior knows noise up to 80"),
        (BaseGrid(start_sigma=20.0, spacing="uniform"), "knows noise up to 14.61"),
        (BaseGrid(start_sigma=0.4, end_sigma=0.5), "give a start_sigma above end_sigma"),
        (BaseGrid(steps=400, spacing="uniform"), "give 1[0-9]+ steps or fewer"),
    ):
        with pytest.raises(ValueError, match=said):
            grid.sigmas(SPEC)
