"""How many regions a network call has: as many as fit, of all pictures, and what that saves."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from exact_regions import ExactTiles, run, scene
from torch import nn

from undegrade.pipelines import tiled_prior
from undegrade.pipelines.adadiffsr import injection
from undegrade.pipelines.adadiffsr.call_cost import CallCost, cost_of, fewest
from undegrade.pipelines.adadiffsr.injection import FeatureInjection
from undegrade.pipelines.adadiffsr.report import report
from undegrade.pipelines.adadiffsr.sampler import SHARE, USUAL
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy

SMALL = {"height": 32, "width": 112, "tile": 16, "steps": 10}  # 14 tiles
POLICY = StepPolicy(mode="paper")


def known(a=0.033, b=0.0009, sizes=(1, 4, 8)):
    """The cost of calls that take a + b n, told by three calls of each size, the first two slow."""
    cost = CallCost()
    for n in sizes:
        for late in (5.0, 9.0, 0.0):
            cost.add(n, a + b * n + late)
    return cost


def test_a_and_b_are_read_off_the_third_calls():
    a, b = known().line
    assert abs(a - 0.033) < 1e-9 and abs(b - 0.0009) < 1e-9
    assert known(sizes=(1,)).line is None and CallCost().line is None
    assert abs(known().of(10, 70) - (10 * 0.033 + 70 * 0.0009)) < 1e-9


def test_more_tiles_are_taken_for_as_long_as_a_call_costs_more_than_they():
    assert known().enough == 1024 and known(a=0.0).enough == 1
    assert known(a=0.004, b=0.01).enough == 8 and known(b=0.0).enough is None


def test_a_run_begins_with_the_sizes_that_tell():
    cost, seen = CallCost(), []
    while probe := cost.probe:
        seen.append(probe)
        cost.add(probe, 0.03 + 0.001 * probe)
    assert seen == [1, 1, 1, 4, 4, 4]


def test_costs_are_kept_with_their_network():
    network, other = nn.Linear(1, 1), nn.Linear(1, 1)
    assert cost_of(network, 64) is cost_of(network, 64)
    assert len({id(cost_of(n, size)) for n in (network, other) for size in (32, 64)}) == 4
    assert cost_of(None, 64) is not cost_of(None, 64)


def on_the_card(made):
    """The run, asked as on a CUDA device."""
    made.task = SimpleNamespace(z_lr=SimpleNamespace(device=torch.device("cuda")))
    return made


def test_automatic_calls_fill_a_share_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(tiled_prior, "free_memory", lambda device: 1000)
    made = run(*scene(**SMALL), batch=0)
    assert {call.most for call in made.calls} == {USUAL}
    on_the_card(made).cost = CallCost()
    assert made.most() == 1, "the first calls are measured"
    made.budget.bytes_per_tile = 1000 * SHARE / 6.5
    assert made.most() == 1
    made.cost = known()
    assert made.most() == 6
    made.cost = known(a=0.0015, b=0.01)
    assert made.most() == 4, "more tiles would gain nothing"
    made.batch = 3
    assert made.most() == 3, "as asked"


def test_a_call_that_does_not_fit_is_made_again_in_halves():
    denoise, task = scene(**SMALL)
    sizes, meeting = [], task.sigmas[4].float()

    def full(x, sigma, tiles):
        sizes.append(len(x))
        if len(x) > 3 or (len(x) > 1 and (sigma == meeting).any()):
            raise torch.cuda.OutOfMemoryError("a test's")
        return denoise(x, sigma, tiles)

    found, expected = (run(f, task, POLICY, batch=8, meetings=1) for f in (full, denoise))
    assert sizes[:3] == [8, 4, 2] and max(sizes[2:]) == 2 and sizes[-1] == 1
    assert torch.equal(found.predictions(), expected.predictions())
    assert found.evaluations == expected.evaluations
    calls, saved = len(found.calls), 1 - sum(found.evaluations) / (10 * 14)
    lines = report(found).splitlines()
    said = next(line for line in lines if f"network calls: {calls}, " in line)
    assert "full at 1 to 2 tiles each" in said
    assert abs(float(said.split("so ")[1].split("%")[0]) / 100 - saved) < 0.05


def test_an_error_of_another_kind_is_passed_on():
    def broken(x, sigma, tiles):
        raise RuntimeError("another")

    with pytest.raises(RuntimeError, match="another"):
        run(broken, scene(**SMALL)[1])


def two_pictures():
    denoise, task = scene(**{**SMALL, "width": 80})  # 10 tiles: one call and a quarter of eight
    both = ExactTiles(denoise.mean.repeat(2, 1, 1, 1), denoise.std.repeat(2, 1, 1, 1))
    noise = torch.cat([task.noise, task.noise.flip(0)])
    return both, replace(task, z_lr=task.z_lr.repeat(2, 1, 1, 1), noise=noise), denoise, task


def test_calls_are_filled_across_pictures_which_stay_as_they_are_alone():
    both, pair, denoise, task = two_pictures()
    together = run(both, pair, POLICY, batch=8)
    alone = [run(denoise, replace(task, noise=n), POLICY, batch=8)
             for n in pair.noise.split(len(task.noise))]  # fmt: skip
    calls = [len(made.calls) for made in alone]
    assert len(together.calls) < sum(calls)
    expected = torch.cat([made.predictions() for made in alone])
    assert torch.equal(together.predictions(), expected)


def test_no_order_needs_fewer_calls():
    for batch in (4, 8):
        made = run(*scene(**SMALL), POLICY, batch=batch)
        least = max(max(made.evaluations), -(-sum(made.evaluations) // batch))
        assert len(made.calls) <= least + 1


def test_the_report_says_what_is_saved_of_calls():
    made = run(*scene(**SMALL), POLICY, batch=8)
    every, calls = fewest(10, 14, 8), len(made.calls)
    assert every == 18 and fewest(12, 5, 8) == 12
    said = f"every step takes {every}, so {1 - calls / every:.0%} are saved"
    assert said in report(made)
    made.cost = known()
    a_call = "a call takes 33 ms and 0.9 ms a tile"
    took, whole = made.cost.of(calls, sum(made.evaluations)), made.cost.of(18, 10 * 14)
    assert f"{a_call}: {took:.3g} s in all, every step {whole:.3g} s" in report(made)
    assert 1 - took / whole < 1 - sum(made.evaluations) / (10 * 14), "less than of evaluations"


@pytest.mark.parametrize("bounds", [(), (1,), (3, 4), range(10)])
@pytest.mark.parametrize("meetings", [0, 2])
def test_every_step_is_counted_with_what_no_call_reaches_across(bounds, meetings):
    denoise, task = scene(**{**SMALL, "width": 80})
    levels = task.sigmas.tolist()
    made = run(denoise, replace(task, boundaries=tuple(levels[i] for i in bounds)),
               StepPolicy(mode="every step"), batch=8, meetings=meetings)  # fmt: skip
    assert f"every step takes {len(made.calls)}, so 0% are saved" in report(made)


def test_matrices_of_an_enlargement_are_brought_once_a_run(monkeypatch):
    sent, own = [], injection.enlargement
    monkeypatch.setattr(injection, "enlargement", lambda *key: sent.append(key) or own(*key))
    denoise, task = scene(**SMALL)
    for _ in range(2):
        made = run(denoise, replace(task, grid=replace(task.grid)), injection=FeatureInjection())
        assert sum(made.evaluations) > 80
    assert len(sent) == 2 * (2 + 7) and len({*sent}) == 9
