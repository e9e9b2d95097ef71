"""The noise grid, its rounding, the resolutions, and what a schedule refuses."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from undegrade.models.noise_table import vp_sigmas
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior, PriorSpec
from undegrade.pipelines.schedule import THIRDS, Schedule, karras, round_to, spread_factors
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for

GOLDEN = Path(__file__).parent / "golden"


def official_timesteps() -> list[int]:
    with safe_open(GOLDEN / "subdaps_super_resolution.safetensors", "pt") as file:
        return json.loads(file.metadata()["t"])


def timesteps(table: torch.Tensor) -> list[int]:
    """The index in `table` of every level of the official grid of 100."""
    grid = karras(100, table[-1].item(), table[0].item())
    return torch.searchsorted(table, round_to(grid, table)).tolist()


def test_vp_table():
    table = vp_sigmas()
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log_abar = torch.log1p(-beta).cumsum(0)  # another route to the same numbers
    assert table.dtype == torch.float64
    assert torch.allclose(table, torch.expm1(-log_abar).sqrt(), rtol=1e-12, atol=0)
    official = vp_sigmas(torch.float32)
    assert official[0].item() == pytest.approx(0.0100013, abs=5e-8)  # as the official code prints
    assert official[-1].item() == pytest.approx(157.407, abs=5e-4)


def test_official_timesteps_from_the_official_table():
    assert timesteps(vp_sigmas(torch.float32)) == official_timesteps()


def test_exact_table_differs_at_one_near_tie():
    table, official = vp_sigmas(), official_timesteps()
    mine = timesteps(table)
    assert [i for i in range(100) if mine[i] != official[i]] == [91]
    grid = karras(100, table[-1].item(), table[0].item())
    middle = (table[9] + table[10]) / 2
    assert abs(grid[91] / middle - 1).item() < 1e-4


def test_official_resolutions():
    factors = spread_factors(100, (4, 2, 1), THIRDS)
    assert factors == (4,) * 34 + (2,) * 33 + (1,) * 33
    prior = MultiResolutionPrior(GaussianPrior())
    assert schedule_for(prior, SamplerOptions(steps=100)).factors == factors


def test_resolutions_follow_the_official_formula_for_every_length():
    for steps in range(4, 400):
        e1, e2 = int(steps / 3 * 1), int(steps / 3 * 2)  # last step of each coarse level
        expected = tuple(4 if i <= e1 else 2 if i <= e2 else 1 for i in range(steps))
        assert spread_factors(steps, (4, 2, 1), THIRDS) == expected, steps


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (1,)), (2, (2, 1)), (3, (4, 2, 1)), (5, (4, 4, 2, 2, 1))]
)
def test_few_steps_end_at_full_resolution(steps, expected):
    assert spread_factors(steps, (4, 2, 1), THIRDS) == expected


@pytest.mark.parametrize(("steps", "high", "low"), [(5, 80.0, 0.01), (2, 3.0, 0.5), (1, 7.0, 0.1)])
def test_karras_grid(steps, high, low):
    grid = karras(steps, high, low)
    assert grid.dtype == torch.float64 and grid.shape == (steps,)
    for i, value in enumerate(grid.tolist()):
        share = i / max(steps - 1, 1)
        expected = ((1 - share) * high ** (1 / 7) + share * low ** (1 / 7)) ** 7
        assert value == pytest.approx(expected, rel=1e-12)


def test_karras_rho_one_is_a_straight_line():
    assert torch.allclose(karras(3, 3.0, 1.0, 1.0), torch.tensor([3.0, 2.0, 1.0]).double())


def test_round_to_takes_the_first_of_a_tie():
    known = torch.tensor([1.0, 2.0, 4.0])
    assert round_to(torch.tensor([9.0, 3.0, 1.4, 0.1]), known).tolist() == [4.0, 2.0, 1.0, 1.0]


def test_schedule_of_a_discrete_prior_keeps_the_grid():
    table = vp_sigmas()
    spec = PriorSpec(sigma_min=table[0].item(), sigma_max=table[-1].item(), sigmas=table)
    schedule = schedule_for(GaussianPrior(spec=spec), SamplerOptions(steps=10))
    assert schedule.steps == 10 and schedule.sigmas[-1] == 0
    assert set(schedule.sigmas[:-1].tolist()) <= set(table.tolist())
    assert torch.equal(schedule.grid, karras(10, spec.sigma_max, spec.sigma_min))
    assert not torch.equal(schedule.grid, schedule.sigmas[:-1])


def test_asked_levels_replace_the_priors_own():
    schedule = schedule_for(GaussianPrior(), SamplerOptions(steps=4, sigma_max=2.0, sigma_min=0.5))
    assert schedule.sigmas[[0, -2]].tolist() == pytest.approx([2.0, 0.5])
    low = schedule_for(GaussianPrior(), SamplerOptions(steps=3, sigma_max=0.005))
    assert low.sigmas.tolist() == pytest.approx([0.005, 0.005, 0.005, 0])
    assert torch.equal(low.grid, low.sigmas[:-1])
    with pytest.raises(ValueError, match=r"run from 1\.0 to 5\.0; give sigma_max >= sigma_min"):
        schedule_for(GaussianPrior(), SamplerOptions(sigma_max=1.0, sigma_min=5.0))


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: karras(0, 1.0, 0.1), r"asked for 0 steps; give 1 or more\."),
        (lambda: karras(3, 0.1, 1.0), r"run from 0\.1 to 1\.0; give sigma_max >= sigma_min > 0\."),
        (lambda: karras(3, 1.0, 0.0), r"run from 1\.0 to 0\.0; give"),
        (lambda: karras(3, math.inf, 1.0), r"run from inf to 1\.0; give"),
        (lambda: karras(3, 1.0, math.nan), r"run from 1\.0 to nan; give"),
        (lambda: Schedule(tensor(1, 0), (1, 1)), r"schedule of 2 steps has \(2,\) noise levels"),
        (lambda: Schedule(tensor(0), ()), r"at least one step"),
        (lambda: Schedule(tensor(1, 0.5, 0.1), (1, 1)), r"never rise and end in 0\."),
        (lambda: Schedule(tensor(1, 2, 0), (1, 1)), r"never rise"),
        (lambda: Schedule(tensor(1, 2.1, 0), (2, 1)), r"never rise"),
        (lambda: Schedule(tensor(1, 0, 0), (1, 1)), r"must be positive"),
        (lambda: Schedule(tensor(1, math.nan, 0), (1, 1)), r"must be positive"),
        (lambda: Schedule(tensor(2, 1, 0), (1, 2)), r"Factors are \(1, 2\); they must never rise"),
        (lambda: Schedule(tensor(2, 1, 0), (4, 2)), r"end in 1\."),
        (lambda: Schedule(tensor(2, 1, 0), (1, 1), tensor(2)), r"schedule of 2 steps"),
        (lambda: spread_factors(9, (4, 2, 1), (0.5,)), r"3 resolutions need 2 rising switch"),
        (lambda: spread_factors(9, (4, 2, 1), (0.6, 0.3)), r"but \[0\.6, 0\.3\] came\."),
        (lambda: MultiResolutionPrior(GaussianPrior(), (3, 2, 1)), r"each a multiple of the next"),
        (lambda: MultiResolutionPrior(GaussianPrior(), (4, 2)), r"end in 1, such as 4, 2, 1\."),
        (lambda: MultiResolutionPrior(GaussianPrior(), (2, 1), (1.0,)), r"between 0 and 1, but"),
        (lambda: SamplerOptions(steps=0), r"SamplerOptions\.steps is 0; give a number in \[1, "),
        (lambda: SamplerOptions(renoise=1.5), r"renoise is 1\.5; give a number in \[0\.0, 1\.0\]"),
        (lambda: SamplerOptions(sigma_max=math.nan), r"sigma_max is nan; give a finite number"),
        (lambda: SamplerOptions(ode_steps=0), r"ode_steps is 0; give a number in"),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
