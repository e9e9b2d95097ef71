"""Pictures in lockstep: shared network calls, files that do not depend on company or memory."""

import json
import threading
from pathlib import Path

import pytest
import torch
from batch_runs import (
    QUICK,
    SHIPPED,
    Calls,
    Mixing,
    batch,
    files,
    manifest,
    workflow,
    write_pictures,
)
from PIL import Image

from undegrade.headless.batch.engines import groups_of
from undegrade.headless.batch.footprint import Footprint
from undegrade.headless.batch.lockstep import SharedPrior, run_together
from undegrade.headless.batch.worker import Picture
from undegrade.models.prior import MultiResolutionPrior, Prior
from undegrade.models.registry import BUILT_IN, load_pixel_prior


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Eleven pictures of two sizes and the small workflow."""
    monkeypatch.chdir(tmp_path)
    write_pictures("in", 11, sides=((16, 24), (16, 24), (9, 31)))
    Path("w.json").write_text(json.dumps(workflow()))
    return tmp_path


def test_one_call_for_several_pictures(place):
    calls = Calls()
    assert batch("w.json", "out", "--together", "4", calls=calls) == 0
    assert len(files("out")) == 11 and calls.loads == 1
    weighed, tried = 2, 2 * 3  # each size once
    assert calls.rows.count(1) == weighed and calls.rows.count(4) == 3 * (2 + 1) + tried
    assert len(calls.rows) == weighed + tried + 9


def test_alone_or_in_company(place):
    """Mixing answers differently for other numbers of rows, so filling up is what this proves."""
    assert batch("w.json", "all", "--together", "4", calls=Calls()) == 0
    for name, data in files("all").items():
        alone = f"alone/{name}"
        assert batch("w.json", alone, "--together", "4", pattern="in/**/" + Path(name).name,
                     calls=Calls()) == 0
        assert files(alone) == {name: data}
    assert batch("w.json", "one", calls=Calls()) == 0
    assert files("one") != files("all")


def test_alone_or_in_company_with_the_built_in_prior(place):
    write_pictures("in", 11, sides=((16, 24), (16, 24), (12, 36)))
    assert batch(SHIPPED, "all", *QUICK, "--together", "4") == 0
    for name in ("a/p000.png", "b/p005.png", "a/p010.png"):
        out = Path("alone", Path(name).stem)
        assert batch(SHIPPED, out, *QUICK, "--together", "4",
                     pattern="in/**/" + Path(name).name) == 0
        assert files(out) == {name: files("all")[name]}


def test_a_broken_picture_in_company(place):
    Image.new("RGB", (24, 16), "white").save("in/a/p000.png")
    assert batch("w.json", "out", "--together", "4", calls=Calls()) == 1
    assert len(files("out")) == 10
    assert "white" in manifest("out")["a/p000.png"]["error"]


def test_memory_limits_the_rows(place):
    """Sixteen times the pixels take sixteen times the memory, hence go in smaller calls."""
    calls = Calls()
    prior = Mixing(calls)
    one = 3 * 8 * 8 * 4
    state, level = torch.ones(1, 3, 8, 8), torch.ones(1)
    with Footprint() as footprint:
        prior.denoise(state, level)
    assert one <= footprint.peak <= 2 * one + 64
    shared = SharedPrior(prior, 8, 4.5 * footprint.peak / 2**30)
    x = torch.arange(10.0)[:, None, None, None].expand(10, 3, 8, 8)
    assert shared.denoise_rows(x, torch.ones(10), 1).shape == x.shape
    assert calls.rows[-3:] == [4, 4, 4] and max(calls.rows) == 4
    calls.rows.clear()
    shared.denoise_rows(torch.ones(2, 3, 32, 32), torch.ones(2), 1)
    assert calls.rows == [1, 1, 1]


def test_footprint_counts_what_lives_at_one_time():
    with torch.inference_mode(), Footprint() as footprint:
        x = torch.ones(1000)
        for _ in range(5):
            x = x + 1  # the old one dies
        x.view(10, 100).add_(1)
    assert footprint.peak == 2 * 4000


@pytest.mark.parametrize("kind", ["place", "company", "company at the end", "neither"])
def test_a_number_of_rows_is_tried_before_it_is_used(kind):
    class Prior(Mixing):
        def denoise(self, x, sigma, factor=1):
            y = super().denoise(x, sigma, factor)
            if len(x) > 4 and kind == "place":
                y[-1] += 1e-6
            if len(x) > 4 and kind == "company at the end":
                y[-1] += 1e-3 * (x[0] - x[-1])
            if len(x) > 4 and kind == "company":
                y = y + 1e-6 * x.mean(0)
            return y

    calls = Calls()
    SharedPrior(Prior(calls), 8, 4.0).denoise_rows(torch.ones(8, 3, 4, 4), torch.ones(8), 1)
    assert calls.rows[-1] == (8 if kind == "neither" else 4)


def test_every_question_gets_its_own_answer():
    """Rows of several sizes, levels and factors, asked out of step, are those of lone calls."""
    prior = load_pixel_prior(BUILT_IN)
    shared = SharedPrior(prior, 4, 4.0)
    assert isinstance(shared, Prior) and shared.spec is prior.spec
    generator = torch.Generator().manual_seed(0)
    states = [torch.randn(1 + i % 2, 3, 32, 16 + 16 * (i % 2), generator=generator)
              for i in range(5)]

    def ask(x, rounds, through):
        with torch.inference_mode():
            for k in range(rounds):
                x = through(x, torch.full((len(x),), 0.5 + k), 1 + k % 2)
        return x

    found = run_together([lambda x=x, i=i: ask(x, 1 + i, shared.denoise)
                          for i, x in enumerate(states)])
    for i, (x, answer) in enumerate(zip(states, found, strict=True)):
        torch.testing.assert_close(answer, ask(x, 1 + i, prior.denoise), rtol=0, atol=2e-5)
        assert torch.equal(answer, ask(x, 1 + i, shared.denoise_rows))
    assert threading.active_count() < 10


def test_gradients_are_answered_alone():
    prior = load_pixel_prior(BUILT_IN)
    wrapped = MultiResolutionPrior(SharedPrior(prior, 3, 4.0))
    x, sigma = torch.ones(1, 3, 16, 16), torch.ones(1)

    def gradient(through):
        with torch.inference_mode():
            y, pull = torch.func.vjp(lambda z: through.denoise(z, sigma), x)
            return pull(y)[0]

    found = run_together([lambda: gradient(wrapped)] * 2)
    assert torch.equal(found[0], gradient(prior)) and torch.equal(found[0], found[1])


def test_errors_reach_their_pictures_and_leave_no_thread():
    class Failing(Mixing):
        def denoise(self, x, sigma, factor=1):
            if x.shape[-1] == 7:
                raise RuntimeError("seven")
            return x

    shared = SharedPrior(Failing(Calls()), 2, 4.0)
    before = threading.active_count()
    works = [lambda w=w: shared.denoise(torch.ones(1, 3, 4, w), torch.ones(1)) for w in (6, 7, 7)]
    six, *sevens = run_together(works)
    assert six.shape[-1] == 6 and [str(e) for e in sevens] == ["seven"] * 2

    class Stop(Mixing):
        def denoise(self, x, sigma, factor=1):
            raise KeyboardInterrupt

    stopping = SharedPrior(Stop(Calls()), 2, 4.0)
    with pytest.raises(KeyboardInterrupt):
        run_together([lambda: stopping.denoise(torch.ones(1, 3, 4, 4), torch.ones(1))] * 3)
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and thread.daemon:
            thread.join(1)
    assert threading.active_count() <= before


def test_groups_wait_for_their_size_but_not_for_ever(place):
    def picture(name):
        return Picture(name, Path(name).read_bytes(), 0)

    taken = []

    def pictures():
        for i in range(11):
            taken.append(i)
            yield picture(f"in/{'ab'[i % 2]}/p{i:03}.png")

    groups = groups_of(pictures(), 4)
    first = next(groups)
    assert len(first) == 4 and len(taken) == 5  # 0 1 3 4; 2 waits, and nothing is read ahead
    assert [len(g) for g in groups] == [4, 3]
    read = []
    many = (read.append(i) or Picture(str(i), _png(Path(f"s{i}.png"), i + 1), 0)
            for i in range(40))
    ahead = [len(read) - given for given, group in enumerate(groups_of(many, 2))]
    assert len(ahead) == 40 and max(ahead) == 9


def _png(path, side):
    Image.new("RGB", (side, side)).save(path)
    return path.read_bytes()
