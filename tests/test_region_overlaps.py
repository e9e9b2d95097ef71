"""Regions that overlap: one noise map, meetings on the way, and weights that sum to one."""

import itertools
import math

import pytest
import torch
from exact_regions import run, scene

from undegrade.pipelines.adadiffsr.regions import Task, start_nodes
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.tiling import TileGrid, gaussian_weight

EVERY = StepPolicy(mode="every step", early_exit=False)


@pytest.fixture(autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


def disagreement(task, denoise, tiles):
    """How far neighbours differ where they overlap, rms over the strips between columns."""
    grid = task.grid
    seen = tiles.unflatten(0, (len(grid.rows), len(grid.columns)))
    a, b = seen[:, :-1, ..., -grid.overlap :], seen[:, 1:, ..., : grid.overlap]
    return (a - b).square().mean().sqrt().item()


def blurred(x, sigma, _):
    """A denoiser that looks around: neighbours' overlaps see different surroundings."""
    s = sigma[:, None, None, None]
    around = x.mean((-2, -1), keepdim=True)
    return around + 0.25 / (0.25 + s**2) * (x - around)


def test_shared_noise_keeps_overlaps_together():
    _, task = scene(overlap=32, steps=12)
    shared = disagreement(task, blurred, run(blurred, task, EVERY).predictions())
    own = torch.cat([per_sample_noise([k])(t[None]) for k, t in enumerate(task.noise)])
    apart = Task(task.grid, task.z_lr, own, task.sigmas, task.half)
    independent = disagreement(apart, blurred, run(blurred, apart, EVERY).predictions())
    assert independent > 0.1 and shared <= independent / 4


def test_at_meetings_all_regions_wait_and_overlaps_agree():
    _, task = scene(overlap=32, steps=20)
    none = run(blurred, task, batch=7)
    some = run(blurred, task, batch=7, meetings=6)
    visited = {k: set() for k in range(len(task.z_lr))}
    for call in some.calls:
        for tile, node, _, _ in call.evaluated:
            visited[tile].add(node)
    assert all(set(some.stops) <= nodes for nodes in visited.values()) and len(some.stops) == 6
    gap = [disagreement(task, blurred, made.predictions()) for made in (none, some)]
    assert gap[1] < gap[0] / 2
    assert torch.equal(run(blurred, task, batch=1, meetings=6).predictions(), some.predictions())


@pytest.mark.parametrize("solver", ["euler", "dpm++ 2m"])
def test_at_a_meeting_the_states_are_stitched_and_cut(solver):
    """And what was predicted before it says nothing of the way after it."""
    _, task = scene(overlap=32, steps=6)
    made = run(blurred, task, EVERY, solver=solver, meetings=1, batch=5)
    levels = task.sigmas.tolist()
    x, everyone = task.z_lr + levels[0] * task.noise, range(len(task.z_lr))
    before, h_before = None, 0.0
    for node, s in enumerate(levels):
        if node == 2:
            x, before = task.grid.cut(task.grid.stitch(x)), None
        x0_hat = towards = blurred(x, torch.full((len(x),), s), everyone)
        if node < 5:
            h = math.log(s / levels[node + 1])
            if solver == "dpm++ 2m" and before is not None:
                towards = x0_hat + min(h / (2 * h_before), 1.0) * (x0_hat - before)
            x, before, h_before = towards + levels[node + 1] / s * (x - towards), x0_hat, h
    assert made.stops == {2} and torch.equal(made.predictions(), x0_hat)


def test_at_a_meeting_those_that_began_later_are_as_noisy_as_the_others():
    """0.6 of the noise: what they bring is their prediction with 0.6 sigma n."""
    _, task = scene(overlap=32, steps=6)
    z_lr = task.z_lr.clone()
    z_lr[::2] = per_sample_noise([1])(z_lr[:1]) * 0.3
    task = Task(task.grid, z_lr, task.noise, task.sigmas, task.half)
    levels, noise = task.sigmas.tolist(), 0.6 * task.noise
    later = StepPolicy(mode="every step", early_exit=False, adaptive_start=True,
                       start_sigma_easy=levels[4])  # fmt: skip
    made = run(blurred, task, later, solver="euler", noise=0.6, meetings=1, batch=3)
    easy = torch.tensor(start_nodes(task, later)) == 4
    assert made.stops == {2} and easy.any() and not easy.all()
    hard, easy = z_lr + levels[0] * noise, easy[:, None, None, None]
    last = follow(z_lr + levels[4] * noise, levels, 4, 5)  # they go on alone, to their end
    hard = follow(hard, levels, 0, 2)
    met = torch.where(easy, blurred_at(last, levels[5]) + levels[2] * noise, hard)
    x = follow(task.grid.cut(task.grid.stitch(met)), levels, 2, 5)
    wanted = blurred_at(torch.where(easy, last, x), levels[5])
    torch.testing.assert_close(made.predictions(), wanted, atol=1e-6, rtol=0)


def blurred_at(x, level):
    return blurred(x, torch.full((len(x),), level), ())


def follow(x, levels, start, end):
    """Euler steps from node to node."""
    for a, b in itertools.pairwise(levels[start : end + 1]):
        x0_hat = blurred_at(x, a)
        x = x0_hat + b / a * (x - x0_hat)
    return x


def test_a_region_that_begins_later_misses_the_first_meetings():
    denoise, task = scene(overlap=32, steps=20)
    z_lr = task.z_lr.clone()
    z_lr[::2] = per_sample_noise([1])(z_lr[:1]) * 0.3
    task = Task(task.grid, z_lr, task.noise, task.sigmas, task.half)
    later = StepPolicy(mode="every step", early_exit=False, adaptive_start=True,
                       start_sigma_easy=0.5)  # fmt: skip
    made = run(denoise, task, later, meetings=4, batch=3)
    begun = 20 - min(made.evaluations)
    assert set(made.evaluations) == {20, 20 - begun} and min(made.stops) < begun < max(made.stops)
    last = max(made.stops)
    past = [max(n for _, n, _, _ in call.evaluated) >= last for call in made.calls]
    before = [min(n for _, n, _, _ in call.evaluated) < last for call in made.calls]
    assert past.index(True) > max(k for k, b in enumerate(before) if b), "none goes on alone"
    spread = made.predictions().std((1, 2, 3))
    assert spread.max() < 2 * run(denoise, task, later, batch=3).predictions().std((1, 2, 3)).max()


def test_weights_of_a_grid_sum_to_one():
    grid = TileGrid(100, 150, 64, 32)
    ones = torch.ones(grid.count, 1, 64, 64)
    assert (grid.stitch(ones, gaussian_weight(64)) - 1).abs().max() < 1e-6
