"""Training by the clock: a batch drawn on the device, the rate run down in time, nothing lost."""

import math
import time
from itertools import count
from types import SimpleNamespace

import numpy as np
import pretended_device
import pytest
import torch
from PIL import Image
from torch import nn

from undegrade.models.pixel import Block, PixelNetwork, PixelPrior
from undegrade.models.prior import PriorSpec
from undegrade.models.registry import load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines import prior_errors
from undegrade.training import clock, optimizers, prior, prior_by_clock, resident
from undegrade.training.loop import LoopOptions
from undegrade.training.prior_files import PriorOptions
from undegrade.training.synthetic import canvas

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two pictures of 128 pixels."""
    path = tmp_path_factory.mktemp("pictures")
    for k in range(2):
        Image.fromarray(canvas(k, 128)).save(path / f"{k}.png")
    return path


def prior_of(network) -> PixelPrior:
    return PixelPrior(network, PriorSpec(multiple_of=4))


def test_smoke_prior_by_the_clock(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prior_errors, "LEVELS", (0.05, 0.5, 5.0))
    monkeypatch.setattr(prior_by_clock, "CANVAS_SIDE", 128)
    arguments = ["--out", str(tmp_path), "--pictures", str(folder), "--side", "32", "--batch", "6"]
    arguments += ["--widths", "8,12", "--minutes", "0.01", "--optimizer", "muon", "--warm-up", "3"]
    arguments += ["--blocks", "1", "--drawn", "0.3", "--canvases", "2", "--held-out", str(folder)]
    started = time.monotonic()
    assert prior.main(arguments) == 0
    assert time.monotonic() - started > 0.6
    made = load_pixel_prior(tmp_path / "prior.safetensors")
    assert made.spec.multiple_of == 4 and len(made.network.enc[0]) == 1
    assert made.spec.errors.spectrum(0.5, 2)
    _, said = read_tensors(tmp_path / "prior.safetensors")
    assert int(said["steps"]) >= 3 and said["samples"] == str(6 * int(said["steps"]))
    assert said["license"] == "MIT" and "--minutes 0.01" in said["command"]
    assert "psnr_25" in capsys.readouterr().out
    with pytest.raises(ValueError, match="needs a folder of pictures"):
        prior.main(["--minutes", "1", "--out", str(tmp_path)])


def test_the_loss_is_that_of_the_loop(folder):
    """The same weight, the same denoiser, whatever the reduction; a batch is its generator."""

    class Tells(PixelPrior):
        def denoise_levels(self, x, sigma, level):
            told.append((sigma, level))
            return torch.zeros_like(x)

    told: list = []
    pictures = resident.Resident(folder, CPU)
    options = PriorOptions(batch=20, side=16)
    loss = prior_by_clock.loss_of(Tells(nn.Linear(1, 1), PriorSpec()), pictures, options)
    value = loss(torch.Generator().manual_seed(5))
    assert torch.equal(loss(torch.Generator().manual_seed(5)), value)
    (sigma, level), _ = told
    assert level.tolist() == [0.0] * 12 + [1.0] * 5 + [2.0] * 3
    g = torch.Generator().manual_seed(5)
    x0 = torch.cat([pictures.crops(g, n, 16, f) for f, n in ((1, 12), (2, 5), (4, 3))])
    weight = (sigma**2 + 0.25) / (0.25 * sigma**2)
    assert float(value) == pytest.approx(float((weight * x0.square().mean((1, 2, 3))).mean()))


def test_a_step_asks_nothing_of_the_host(folder):
    """No number is read from the card and none is sent there, or no graph could hold it."""
    with pretended_device.pretended() as waits:
        pictures = resident.Resident(folder, pretended_device.CARD)
        network = PixelNetwork((8, 12), blocks=1, embedding=24).to(pretended_device.CARD)
        loss = prior_by_clock.loss_of(prior_of(network), pictures, PriorOptions(batch=6, side=16))
        generator, parameters = torch.Generator().manual_seed(0), list(network.parameters())
        rate = torch.full((), 0.01, device=pretended_device.CARD)
        muon = optimizers.Muon([p for p in parameters if p.ndim > 1], rate)
        loss(generator)  # finds which pictures are large enough
        waits.uploads.clear()
        loss(generator).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        muon.step()
        assert not waits.uploads and not waits.reads


def test_reductions_go_through_the_network_as_one_by_one(draw):
    network = PixelNetwork((8, 12), blocks=1, embedding=24)
    x, sigma, factors = draw(3, 3, 16, 24), torch.tensor([0.1, 0.4, 2.0]), (1, 2, 4)
    level = torch.tensor(factors).float().log2()
    together = prior_of(network).denoise_levels(x, sigma, level)
    for k, factor in enumerate(factors):
        alone = prior_of(network).denoise(x[k : k + 1], sigma[k : k + 1], factor)
        assert torch.allclose(together[k : k + 1], alone, atol=1e-5)


def test_noise_levels_lie_where_denoising_is_judged():
    factors = torch.tensor([1] * 3000 + [4] * 3000)
    odds, low, high = prior_by_clock.noise_intervals(factors)
    u = torch.rand(6000, 1, generator=torch.Generator().manual_seed(1))
    chosen = (u > odds).sum(1)
    assert (chosen[:3000] == 0).float().mean() == pytest.approx(0.5, abs=0.03)
    assert (chosen[3000:] > 0).all()
    assert (chosen == 2).float().mean() == pytest.approx(0.15 * 0.75, abs=0.02)
    assert torch.allclose(low.exp()[-1], torch.tensor([0.08, 0.3, 0.005]))
    assert torch.allclose(high.exp()[0], torch.tensor([0.5, 1.0, 80.0]))


def test_the_rate_ends_with_the_clock():
    def share(done, now):
        return clock.rate_share(done, 10, first=100.0, now=now, deadline=200.0)

    assert share(0, 100.0) == pytest.approx(0.1) and share(50, 100.0) == 1
    assert share(50, 150.0) == pytest.approx(0.5) and share(50, 201.0) < 1e-9


class Line(nn.Module):
    """y = 2 x + 1 is to be learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 1))
        self.broken = 0

    def loss(self, generator):
        x = torch.rand(32, 1, generator=generator)
        self.broken -= 1
        bad = math.nan if self.broken == 0 else 1.0
        return bad * (self.layers(x) - 2 * x - 1).square().mean()


@pytest.fixture
def ticking(monkeypatch):
    """Every look at the clock takes a hundredth of a second, on the slowest machine too."""
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=count(0, 0.01).__next__))


def trained(line, written=None, launch="plain", seconds=2.0):
    """The averaged network and its error after a while."""

    def error(network):
        x = torch.linspace(0, 1, 9)[:, None]
        return {"error": float((network.layers(x) - 2 * x - 1).abs().mean())}

    keep = [] if written is None else written
    work = clock.Work(line, line.loss, error, lambda *given: keep.append(given[1:]), nn.Sequential)
    options = LoopOptions(rate=0.02, warm_up=5, average=0.9, optimizer="muon")
    end = clock.time.monotonic() + seconds
    return clock.train_by_clock(work, options, CPU, end, launch)


def test_it_learns_and_writes_on_its_way(monkeypatch, ticking):
    monkeypatch.setattr(clock, "VALIDATE_EVERY", 0.3)
    monkeypatch.setattr(clock, "WRITE_EVERY", 0.5)
    written: list = []
    line = Line()
    network, scores, steps = trained(line, written)
    assert scores["error"] < 0.05 and network is not line
    assert 2 <= len(written) <= 7 and written[-1] == (scores, steps)


def test_a_loss_that_breaks_goes_back(capsys, ticking):
    line = Line()
    line.broken = 20
    _, scores, _ = trained(line)
    assert "the loss is nan; back" in capsys.readouterr().out and scores["error"] < 0.5


def test_a_compiler_that_fails_is_said_and_left(monkeypatch, capsys, ticking):
    def fails(self, *given, **_):
        self._compiled_call_impl = lambda *_: 1 / 0

    monkeypatch.setattr(nn.Sequential, "compile", fails)
    _, scores, steps = trained(Line(), launch="compiled", seconds=0.5)
    assert "not compiled: ZeroDivisionError" in capsys.readouterr().out
    assert steps > 3 and np.isfinite(scores["error"])


def test_the_average_follows():
    """avg <- keep avg + (1 - keep) w, and a step moves the weights by the rate in the tensor."""
    work = clock.Work(line := Line(), line.loss, dict, print, Block)
    step = clock.Stepper(work, LoopOptions(optimizer="muon"), CPU)
    before = [w.clone() for w in step.trained]
    step()  # the rate is zero, the average is the weights
    assert all(map(torch.equal, before, step.trained))
    step.rate.fill_(0.1)
    step.keep.fill_(0.75)
    step()
    assert not any(map(torch.equal, before, step.trained))
    for old, new, mean in zip(before, step.trained, step.average, strict=True):
        assert torch.allclose(mean, 0.75 * old + 0.25 * new, atol=1e-6)
