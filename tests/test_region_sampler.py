"""Region-Adaptive Sampler (stock): stock sampling where nothing is skipped, and tiles that see
their own part of everything."""

import math

import pytest
import torch
from region_guiders import (
    LATENTS,
    Cond,
    Constant,
    Control,
    Flow,
    Guider,
    by_hand,
    drawn,
    install,
    karras,
    pictures,
    run,
    sampler,
)

from undegrade.nodes.comfyui import region_sampler
from undegrade.nodes.comfyui.tiled_conditioning import boundaries
from undegrade.pipelines.adadiffsr.step_policy import StepPolicy
from undegrade.pipelines.out_of_memory import ACCELERATOR
from undegrade.pipelines.tiling import TileGrid

GRID = TileGrid(*LATENTS[1:], 16, 8)
SKIPPING = StepPolicy(mode="paper")


@pytest.fixture(autouse=True)
def comfyui(monkeypatch):
    return install(monkeypatch)


def entry(**given):
    return {"positive": [{"model_conds": {}, **given}], "negative": None}


@pytest.mark.parametrize("solver", ["euler", "dpm++ 2m"])
@pytest.mark.parametrize("sampling", [None, Flow()])
@pytest.mark.parametrize("masked", [False, True])
def test_one_tile_at_every_step_is_stock_sampling(solver, sampling, masked):
    shape, sigmas = (2, 4, 16, 16), karras(top=0.9 if sampling else 4.0)
    mask = (drawn(2, 4, 16, 16, seed=2) > 0).float() if masked else None
    ours = run(Guider(sampling=sampling), sampler(solver=solver), sigmas, shape, mask)
    latent = pictures(*shape)
    theirs = by_hand(Guider(sampling=sampling), sigmas, solver, latent, drawn(*shape), mask)
    assert (ours - theirs).abs().max() < 1e-5


def test_tiles_are_those_of_the_canvas_for_pixelwise_networks():
    guider = Guider()
    shape = (3, *LATENTS)
    ours = run(guider, sampler(), shape=shape)
    latent = pictures(*shape)
    assert (ours - by_hand(Guider(), karras(), "euler", latent, drawn(*shape))).abs().max() < 1e-5
    assert all(len(call[1]) <= 3 for call in guider.calls)
    assert len(guider.calls) == math.ceil(3 * GRID.count / 3) * 12


def test_the_batch_size_changes_nothing_and_regions_skip():
    results, evaluations = [], []
    for most in (1, 64, 0):
        guider = Guider()
        results.append(run(guider, sampler(SKIPPING, most), karras(30), (2, *LATENTS)))
        evaluations.append(sum(len(call[1]) for call in guider.calls))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
    assert len(set(evaluations)) == 1 and evaluations[0] < 0.8 * 30 * 2 * GRID.count
    levels = [len(set(call[1].tolist())) for call in guider.calls]
    assert max(levels) > 1  # really a level of its own for every sample


def places(pictures, factor):
    """A canvas whose value says picture, row and column."""
    height, width = (factor * side for side in LATENTS[1:])
    rows = torch.arange(height).float()[:, None].expand(-1, width)
    columns = torch.arange(width).float().expand(height, -1)
    planes = torch.stack([rows, columns])[None].repeat(pictures, 1, 1, 1)
    number = torch.arange(pictures).float()[:, None, None, None].expand(-1, 1, height, width)
    return torch.cat([planes, number], 1)


def test_every_tile_sees_its_own_hint():
    first, stale = Control(places(3, 8)), torch.zeros(3, 3, 128, 128)
    second = Control(places(1, 8), previous=first)
    second.cond_hint = stale  # of a run before, of a tile's size
    guider, made = Guider(entry(control=second)), sampler()
    run(guider, made, shape=(3, *LATENTS))
    hints = GRID.scaled(8).cut(places(3, 8))
    shared = hints[: GRID.count].repeat(3, 1, 1, 1)  # the second has one picture for all
    for *_, conds, options in guider.calls:
        grid, tiles = options["transformer_options"]["undegrade_tiles"]
        assert grid == GRID
        control = conds["positive"][0]["control"]
        assert torch.equal(control.cond_hint, shared[list(tiles)])
        assert torch.equal(control.previous_controlnet.cond_hint, hints[list(tiles)])
    assert second.cond_hint is stale and torch.equal(second.cond_hint_original, places(1, 8))


def test_a_hint_of_another_size_is_that_of_the_canvas():
    hint = places(1, 8)[..., ::2, ::2]
    guider = Guider(entry(control=Control(hint)))
    run(guider, sampler())
    whole = torch.nn.functional.interpolate(hint, (8 * LATENTS[1], 8 * LATENTS[2]))
    _, _, conds, options = guider.calls[-1]
    tiles = options["transformer_options"]["undegrade_tiles"][1]
    assert torch.equal(
        conds["positive"][0]["control"].cond_hint, GRID.scaled(8).cut(whole)[list(tiles)]
    )


def test_masks_inpainting_latents_and_references_are_cut_and_rows_follow_their_picture():
    token = torch.arange(5.0)  # a constant, though it looks like rows
    other = drawn(1, 4, 9, 9)
    conds = entry(mask=places(1, 1)[:, 0])
    conds["positive"][0]["model_conds"] = {
        "c_concat": Cond(places(3, 1)),
        "ref_latents": Cond([places(1, 1), other]),
        "y": Cond(torch.tensor([[0.0], [1.0], [2.0]])),
        "c_crossattn": Cond(torch.zeros(1, 7, 5)),
        "token": Constant(token),
    }
    guider = Guider(conds)
    run(guider, sampler(), shape=(3, *LATENTS))
    for x, _, seen, options in guider.calls:
        tiles = list(options["transformer_options"]["undegrade_tiles"][1])
        given = seen["positive"][0]
        assert torch.equal(given["mask"], GRID.cut(places(1, 1)).repeat(3, 1, 1, 1)[tiles][:, 0])
        found = {name: cond.cond for name, cond in given["model_conds"].items()}
        assert torch.equal(found["c_concat"], GRID.cut(places(3, 1))[tiles])
        assert torch.equal(found["ref_latents"][0], GRID.cut(places(3, 1))[tiles] * (
            torch.tensor([1.0, 1, 0])[:, None, None]))
        assert found["ref_latents"][1] is other and found["token"] is token
        assert found["y"][:, 0].tolist() == [t // GRID.count for t in tiles]
        assert len(found["c_crossattn"]) == 1 and len(x) == len(tiles)


def test_no_call_straddles_a_boundary_of_the_conditioning():
    sigmas = karras(30)
    end, begin = sigmas[12].item(), sigmas[20].item()
    control = Control(places(1, 8), span=(begin, 0.0))
    guider = Guider(entry(timestep_end=end, timestep_start=1e9, control=control))
    run(guider, sampler(SKIPPING, 5), sigmas)
    assert len(boundaries(guider.conds)) == 4
    for _, sigma, *_ in guider.calls:
        for active in (sigma >= end, sigma <= begin):
            assert active.all() or not active.any()
    assert any(end in call[1].tolist() for call in guider.calls)


def test_a_foreign_function_on_the_model_is_asked_at_one_level_per_call():
    def post_cfg(args):
        return args

    guider, ours = Guider(), Guider()
    run(guider, sampler(SKIPPING, 4), karras(30), sampler_post_cfg_function=[post_cfg])
    assert all(len(set(call[1].tolist())) == 1 for call in guider.calls)
    first = [call[1][0].item() for call in guider.calls]
    assert first == sorted(first, reverse=True)
    post_cfg.per_sample = True
    run(ours, sampler(SKIPPING, 4), karras(30), sampler_post_cfg_function=[post_cfg])
    assert any(len(set(call[1].tolist())) > 1 for call in ours.calls)


def test_nothing_of_the_users_is_changed():
    conds = entry(control=Control(places(1, 8)))
    guider = Guider(conds)
    before = dict(vars(conds["positive"][0]["control"]))
    run(guider, sampler())
    assert guider.conds is conds and vars(conds["positive"][0]["control"]) == before


def test_a_mask_function_is_asked_for_every_call():
    asked = []

    def soften(sigma, mask, extra_options):
        asked.append((sigma.tolist(), extra_options["sigmas"].tolist()))
        return mask * 0.5

    guider, shape = Guider(), (1, 4, 16, 16)
    mask = torch.ones(shape)
    ours = run(guider, sampler(), None, shape, mask, denoise_mask_function=soften)
    latent = pictures(*shape)
    theirs = by_hand(Guider(), karras(), "euler", latent, drawn(*shape), 0.5 * mask)
    assert (ours - theirs).abs().max() < 1e-5
    assert len(asked) == 12 and asked[0][1] == karras().tolist()


def test_progress_counts_calls_and_ends_with_the_result(monkeypatch):
    monkeypatch.setattr(region_sampler.host, "STITCHED_EVERY", 0.0)
    shown = []
    guider = Guider()
    out = run(
        guider, sampler(SKIPPING), karras(30), callback=lambda *given: shown.append(given)
    )
    assert [given[0] for given in shown] == list(range(len(guider.calls)))
    assert shown[-1][3] == len(guider.calls) and torch.equal(shown[-1][1], out)
    assert all(given[0] < given[3] and given[1].shape == out.shape for given in shown)


def test_cancel_stops_before_the_next_call(comfyui):
    class CancelledError(Exception): ...

    guider = Guider(entry(control=Control(places(1, 8))))

    def cancel():
        if len(guider.calls) == 3:
            raise CancelledError

    comfyui["comfy.model_management"].throw_exception_if_processing_interrupted = cancel
    with pytest.raises(CancelledError):
        run(guider, sampler())
    assert len(guider.calls) == 3 and guider.conds["positive"][0]["control"].cond_hint is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, ACCELERATOR])
def test_out_of_memory_halves_the_batch_and_gives_the_same(error):
    class Small(Guider):
        most, refused = 2, []

        def __call__(self, x, sigma, model_options, seed):
            if len(x) > self.most:
                self.refused.append(len(x))
                raise error("CUDA error: out of memory")
            return super().__call__(x, sigma, model_options, seed)

    small = Small()
    ours, plain = run(small, sampler(tiles_per_call=5)), run(Guider(), sampler())
    assert torch.equal(ours, plain) and max(len(call[1]) for call in small.calls) == 2
    assert small.refused == [5]  # never again
    small.most = 0
    with pytest.raises(error):
        run(small, sampler())


def test_a_model_that_was_squeezed_for_the_canvas_is_loaded_for_tiles(monkeypatch):
    asked = []
    monkeypatch.setattr(
        region_sampler, "load_network", lambda guider, shape: asked.append(tuple(shape))
    )
    guider = Guider()
    run(guider, sampler())
    assert not asked
    guider.inner_model.model_lowvram = True
    run(guider, sampler())
    assert asked == [(3, 4, 16, 16)]
