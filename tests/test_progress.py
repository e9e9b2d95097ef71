"""Progress as ComfyUI gets it: each call, and a picture only where one is due."""

from itertools import count, pairwise

import progress_bars
import pytest
import torch
from node_calls import call, measured, photo, sampled
from PIL import Image
from start_noises import ClosedForm, pixel_prior

from undegrade.models.prior import GaussianPrior, MultiResolutionPrior
from undegrade.nodes.comfyui import host
from undegrade.nodes.posterior import sampler

STEPS, CALLS = 28, 3  # of a run, and calls of each step


@pytest.fixture
def clock(monkeypatch):
    """The time, in a list of one, as `host` has it."""
    now = [100.0]
    monkeypatch.setattr(host.time, "monotonic", lambda: now[0])
    return now


def run(clock, made, seconds=0.03):
    """A run that shows a picture after each step; made: (step, time) of those it made."""
    progress = host.Progress(STEPS * CALLS, "Sampler")

    def picture(step):
        made.append((step, clock[0]))
        return Image.new("RGB", (4, 4), (step, 0, 0))

    for step in range(STEPS):
        for _ in range(CALLS):
            clock[0] += seconds
            progress.advance()
        progress.show(lambda step=step: picture(step))


def test_every_call_moves_the_bar_and_no_picture_is_sent_twice(monkeypatch, clock):
    told, made = progress_bars.bar(monkeypatch), []
    run(clock, made)
    assert [value for value, _, preview in told if not preview] == list(range(1, 85))
    sent = [preview for _, _, preview in told if preview]
    assert {(kind, side) for kind, _, side in sent} == {("JPEG", host.PREVIEW_SIDE)}
    shown = [picture.getpixel((0, 0))[0] for _, picture, _ in sent]
    assert shown == [step for step, _ in made] == [*range(0, STEPS, 2), STEPS - 1]


def test_at_most_ten_pictures_a_second_and_the_last_one(monkeypatch, clock):
    told, made = progress_bars.bar(monkeypatch), []
    run(clock, made)
    times = [at for _, at in made]
    assert all(b - a >= 0.1 for a, b in pairwise(times[:-1])) and len(times) == 15
    value, total, (_, last, _) = [said for said in told if said[2]][-1]
    assert (value, total) == (84, 84) and last.getpixel((0, 0))[0] == STEPS - 1


def test_a_slower_run_shows_every_step(monkeypatch, clock):
    progress_bars.bar(monkeypatch)
    made = []
    run(clock, made, seconds=0.04)
    assert [step for step, _ in made] == list(range(STEPS))


def test_without_previews_no_picture_is_made(monkeypatch, clock):
    told, made = progress_bars.bar(monkeypatch, "none"), []
    run(clock, made)
    assert not made and [preview for _, _, preview in told] == 84 * [None]


def test_without_comfyui_no_picture_is_made(clock):
    told, made = [], []
    previous = host.set_progress_sink(lambda *report: told.append(report))
    try:
        run(clock, made)
    finally:
        host.set_progress_sink(previous)
    assert not made and told == [("Sampler", value, 84) for value in range(1, 85)]


@pytest.mark.parametrize("method", ["none", "latent2rgb"])
def test_the_sampler_makes_the_pictures_that_are_sent_and_no_other(monkeypatch, method):
    told, made = progress_bars.bar(monkeypatch, method), []
    _, m = measured(height=16, width=16)

    def to_preview(pixels):
        made.append(pixels.shape)
        return Image.new("RGB", (16, 16))

    monkeypatch.setattr(sampler, "to_preview", to_preview)
    sampled(m, steps=6)
    sent = [preview for _, _, preview in told if preview]
    assert len(made) == len(sent) and (not sent if method == "none" else len(sent) >= 2)


def test_a_few_step_sampler_shows_every_step_but_the_result(monkeypatch):
    told = progress_bars.bar(monkeypatch)
    monkeypatch.setattr(host.time, "monotonic", count().__next__)
    call("UndegradeInversionSampler", prior=pixel_prior(), predictor=ClosedForm(),
         image=photo(20, 28, batch=2), steps=4)  # fmt: skip
    shown = [(value, preview[1].size) for value, _, preview in told if preview]
    assert shown == [(value, (112, 80)) for value in (3, 4, 5)]  # two are the predictor's


def test_the_bar_of_a_measured_prior_is_drawn_full(monkeypatch):
    """Of resolutions that a picture is too small for nothing is measured."""
    shown, prior = [], MultiResolutionPrior(GaussianPrior())
    monkeypatch.setattr(host, "_sink", lambda _, value, total: shown.append((value, total)))
    call("UndegradeMeasurePriorError", prior=prior, image=torch.rand(1, 40, 40, 3))
    assert shown[-1][0] == shown[-1][1] > len(shown)
