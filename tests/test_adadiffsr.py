"""The region-adaptive sampler on an exact denoiser: work, error, packing and starts."""

import itertools
import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from exact_regions import FLAT, ISLAND, TEXTURE, ExactTiles, kinds, run, scene

from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.pipelines.adadiffsr.injection import FeatureInjection
from undegrade.pipelines.adadiffsr.regions import Task, start_nodes
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.schedule import karras
from undegrade.pipelines.tiling import TileGrid

EVERY = StepPolicy(mode="every step", early_exit=False)


@pytest.fixture(autouse=True)
def as_comfyui_runs_nodes():
    with torch.inference_mode():
        yield


def plain(denoise, task, solver):
    """Every tile, every node, in lockstep."""
    levels = task.sigmas.tolist()
    x, everyone = task.z_lr + levels[0] * task.noise, list(range(len(task.z_lr)))
    before, h_before = None, 0.0
    for s, t in itertools.pairwise(levels):
        x0_hat = denoise(x, torch.full((len(x),), s), everyone)
        h, towards = math.log(s / t), x0_hat
        if solver == "dpm++ 2m" and before is not None:
            towards = x0_hat + min(h / (2 * h_before), 1.0) * (x0_hat - before)
        x, before, h_before = towards + t / s * (x - towards), x0_hat, h
    return denoise(x, torch.full((len(x),), levels[-1]), everyone)


@pytest.mark.parametrize("solver", ["euler", "dpm++ 2m"])
def test_every_step_is_plain_tiled_sampling_bit_for_bit(solver):
    denoise, task = scene(overlap=32, steps=12)
    made = run(denoise, task, EVERY, solver=solver, batch=5)
    assert set(made.evaluations) == {12}
    assert torch.equal(made.predictions(), plain(denoise, task, solver))


def test_every_step_with_the_built_in_network_is_plain_tiled_sampling():
    prior, grid = load_pixel_prior(BUILT_IN), TileGrid(37, 53, 32, 16)
    z = per_sample_noise([3])(torch.zeros(1, 3, 37, 53)) * 0.3
    noise = per_sample_noise([4])(z)
    task = Task(grid, grid.cut(z), grid.cut(noise), karras(4, 0.4, 0.02), 1.6)

    def denoise(x, sigma, _):
        return prior.denoise(x, sigma)

    made = run(denoise, task, EVERY, solver="dpm++ 2m", batch=3)
    torch.testing.assert_close(
        made.predictions(), plain(denoise, task, "dpm++ 2m"), atol=1e-5, rtol=0
    )


def rms_by_kind(made, denoise, task):
    exact = denoise.solution(task.z_lr + 5 * task.noise, 5.0, 0.02)
    errors = (made.predictions() - exact).square().mean((1, 2, 3)).sqrt()
    of = torch.tensor(kinds(len(errors)))
    return [errors[of == kind].max().item() for kind in (FLAT, TEXTURE, ISLAND)]


@pytest.mark.parametrize("solver", ["euler", "dpm++ 2m"])
@pytest.mark.parametrize("mode", ["error", "paper"])
def test_flat_tiles_get_fewer_evaluations_and_islands_are_kept(solver, mode):
    denoise, task = scene()
    counts = run(denoise, task, StepPolicy(mode=mode), solver=solver).evaluations
    flat, texture, island = (counts[kind::3] for kind in (FLAT, TEXTURE, ISLAND))
    assert max(flat) < min(texture), (flat, texture)
    assert max(flat) < min(island) and min(island) >= min(texture) - 3


def test_error_stays_near_that_of_every_step():
    denoise, task = scene()
    full = rms_by_kind(run(denoise, task, EVERY, solver="euler"), denoise, task)
    high = StepPolicy(quality="high")
    skipped = rms_by_kind(run(denoise, task, high, solver="euler"), denoise, task)
    assert full[TEXTURE] == pytest.approx(0.0166, abs=0.001)
    assert all(s < 1.15 * f for s, f in zip(skipped[1:], full[1:], strict=True))
    assert skipped[FLAT] < 3e-4
    second = rms_by_kind(run(denoise, task), denoise, task)
    assert max(second) < full[TEXTURE] / 4, "dpm++ 2m takes steps of several lengths"


def test_a_budget_costs_what_it_says():
    denoise, task = scene()
    found = {}
    for quality in ("high", "balanced", "fast", "draft"):
        made = run(denoise, task, StepPolicy(quality=quality), solver="euler")
        found[quality] = (sum(made.evaluations), rms_by_kind(made, denoise, task)[TEXTURE])
    work, error = zip(*found.values(), strict=True)
    assert sorted(work, reverse=True) == list(work) and sorted(error) == list(error)


def test_no_limit_cycle():
    denoise, task = scene(steps=60)
    made = run(denoise, task, StepPolicy(mode="paper"))
    taken = {k: [] for k in range(len(task.z_lr))}
    for call in made.calls:
        for tile, _, _, skip in call.evaluated:
            taken[tile] += [skip] if skip else []
    for skips in taken.values():
        turns = sum(a != b for a, b in itertools.pairwise(skips))
        assert turns <= 9, skips


@pytest.mark.parametrize("quality", ["balanced", "draft"])
def test_the_last_node_is_always_evaluated(quality):
    denoise, task = scene(steps=23)
    made = run(denoise, task, StepPolicy(quality=quality, early_exit=False))
    last = {tile: node for call in made.calls for tile, node, _, _ in call.evaluated}
    assert set(last.values()) == {22} and len(last) == len(task.z_lr)


# Packing


@pytest.mark.parametrize("boundaries", [(), (0.5, 2.0)])
def test_the_result_depends_neither_on_the_batch_nor_on_the_order(boundaries):
    denoise, task = scene(steps=16, boundaries=boundaries)
    alone = run(denoise, task, batch=1)
    for batch in (3, 4, 100):
        made = run(denoise, task, batch=batch)
        assert torch.equal(made.predictions(), alone.predictions())
        assert made.evaluations == alone.evaluations
    order = [4, 2, 0, 5, 3, 1]
    turned = ExactTiles(denoise.mean[order], denoise.std[order])
    other = Task(task.grid, task.z_lr[order], task.noise[order], task.sigmas, 1.6, boundaries)
    assert torch.equal(run(turned, other).predictions(), alone.predictions()[order])


def test_batches_are_full_and_the_least_advanced_go_first():
    denoise, task = scene(overlap=32)
    made = run(denoise, task, batch=4)
    sizes = [len(call.evaluated) for call in made.calls]
    assert sum(sizes) == sum(made.evaluations) and sizes.count(4) >= len(sizes) - 3
    at = dict.fromkeys(range(len(task.z_lr)), 0)
    for call in made.calls:
        chosen = [tile for tile, _, _, _ in call.evaluated]
        waiting = [node for tile, node in at.items() if tile not in chosen]
        assert not waiting or max(node for _, node, _, _ in call.evaluated) <= min(waiting)
        for tile, node, _, skip in call.evaluated:
            assert at[tile] == node
            at[tile] = node + skip if skip else 10**6


@pytest.mark.parametrize("policy", [StepPolicy(), StepPolicy(mode="paper")])
def test_the_heap_costs_a_tenth_less_than_lockstep(policy):
    """35 tiles, batches of 16; a call of b tiles costs 6 + b. Lockstep packs what is due at a node
    of the grid; both take the same decisions."""
    denoise, task = scene(height=320, width=448)
    made = run(denoise, task, policy, batch=16)
    due = Counter(node for call in made.calls for _, node, _, _ in call.evaluated)
    lockstep = sum(6 * math.ceil(tiles / 16) + tiles for tiles in due.values())
    heap = sum(6 + len(call.evaluated) for call in made.calls)
    assert len(task.z_lr) == 35 and lockstep / heap >= 1.1


def test_no_batch_straddles_a_boundary_of_the_conditioning():
    denoise, task = scene(boundaries=(0.5, 2.0))
    seen = []

    def asked(x, sigma, tiles):
        seen.append(sigma)
        return denoise(x, sigma, tiles)

    run(asked, task, batch=4)
    for bound in task.boundaries:
        assert all(len({s > bound for s in sigma.tolist()}) == 1 for sigma in seen)
    assert any(len(set(sigma.tolist())) > 1 for sigma in seen), "a noise level for every sample"


# The start and the injection


def test_easy_regions_begin_later_where_asked():
    denoise, task = scene()
    z_lr = task.z_lr.clone()
    z_lr[TEXTURE::3] = per_sample_noise([1])(z_lr[:1]) * 0.3
    task = Task(task.grid, z_lr, task.noise, task.sigmas, task.half)
    begun = run(denoise, task, StepPolicy(adaptive_start=True, start_sigma_easy=0.5))
    first = {}
    for call in begun.calls:
        for tile, node, _, _ in call.evaluated:
            first.setdefault(tile, node)
    later = next(i for i, s in enumerate(task.sigmas.tolist()) if s <= 0.5)
    assert [first[k] for k in range(6)] == [later, 0, later] * 2
    assert set(run(denoise, task).evaluations) != set(begun.evaluations)
    z_lr[ISLAND::3] = z_lr[TEXTURE] * 0.3  # 0.4 of the bits of the picture's detail: not easy
    some = Task(task.grid, z_lr, task.noise, task.sigmas, task.half)
    policy = StepPolicy(adaptive_start=True, start_sigma_easy=0.5)
    assert start_nodes(some, policy) == [later, 0, 0] * 2


def test_injection_of_strength_zero_changes_nothing_and_of_one_does():
    denoise, task = scene(steps=10)
    free = run(denoise, task).predictions()
    assert torch.equal(run(denoise, task, injection=FeatureInjection(0.0)).predictions(), free)
    held = run(denoise, task, injection=FeatureInjection(1.0)).predictions()
    coarse = [F.avg_pool2d(made, 8).square().mean() for made in (held, free)]
    assert coarse[0] < coarse[1] / 3, "drawn to what an enlarged picture shows, here nothing"


def test_less_noise_starts_nearer_the_picture():
    denoise, task = scene(steps=10)
    none = run(denoise, task, noise=0.0).predictions()
    assert torch.equal(none, torch.zeros_like(none))
