"""The training scripts, small and short: losses fall, and what they write loads."""

import csv
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from undegrade.models.discrete import DiscretePrior
from undegrade.models.noise_table import vp_sigmas
from undegrade.models.pixel import PixelNetwork
from undegrade.models.predictors import load_noise_predictor
from undegrade.models.prior import PriorSpec
from undegrade.models.registry import load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines import prior_errors
from undegrade.training import data, loop, noise_predictor, prior, prior_loss
from undegrade.training.command import command_line, read_options
from undegrade.training.widening import grown

ROOT = Path(__file__).resolve().parent.parent


def rows(out) -> list[dict]:
    with (out / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_options_on_the_command_line(capsys):
    arguments = ["--out", "/a/b", "--steps", "7", "--like", "/c/d.safetensors"]
    options = read_options(noise_predictor.PredictorOptions, arguments, "")
    assert (options.steps, options.batch) == (7, 16)
    said = command_line("noise_predictor", options)
    assert said == "python training noise_predictor --steps 7 --like d.safetensors"
    with pytest.raises(SystemExit):
        read_options(noise_predictor.PredictorOptions, ["--steps", "0"], "")
    assert "steps is 0; give a number in" in capsys.readouterr().err


def test_smoke_noise_predictor(tmp_path, monkeypatch):
    small(monkeypatch)
    arguments = ["--out", str(tmp_path), "--canvases", "3", "--side", "32", "--batch", "4"]
    arguments += ["--widths", "16,24", "--steps", "44", "--rate", "2e-2", "--warm-up", "5"]
    assert noise_predictor.main([*arguments, "--validate-every", "11", "--average", "0.9"]) == 0
    losses = [float(r["square"]) + float(r["edges"]) for r in rows(tmp_path)]
    assert len(losses) == 4 and losses[-1] < 0.97 * losses[0], losses
    made = load_noise_predictor(tmp_path / "predictor.safetensors")
    assert made.predict(torch.zeros(1, 3, 8, 8), torch.tensor([0.3]))[0].shape == (1, 3, 32, 32)
    _, said = read_tensors(tmp_path / "predictor.safetensors")
    assert said["seed"] == "0" and said["samples"] == "176" and "no photographs" in said["data"]
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir())[0] == "00000011.png"


def small(monkeypatch) -> None:
    """Canvases of 192 pixels, and few crops of them to validate on."""
    drawn = data.render
    for script in (noise_predictor, prior):
        monkeypatch.setattr(script, "HELD_OUT", 1)
    monkeypatch.setattr(prior_errors, "LEVELS", (0.05, 0.5, 5.0))
    monkeypatch.setattr(data, "render", lambda *a: drawn(*a, side=192))


def test_smoke_prior(tmp_path, monkeypatch):
    small(monkeypatch)
    arguments = ["--out", str(tmp_path), "--canvases", "3", "--side", "32", "--batch", "8"]
    arguments += ["--widths", "16,24", "--steps", "32", "--rate", "6e-3", "--warm-up", "5"]
    assert prior.main([*arguments, "--validate-every", "8", "--average", "0.9"]) == 0
    losses = [float(r["loss"]) for r in rows(tmp_path)]
    assert losses[-1] < 0.9 * losses[0], losses
    made = load_pixel_prior(tmp_path / "prior.safetensors")
    assert made.spec.trained_factors == (1, 2, 4) and made.spec.multiple_of == 4
    assert 0.01 < made.spec.errors.rms(0.3) < 0.3 and made.spec.errors.spectrum(0.3, 2)
    onward = [*arguments, "--steps", "34", "--like", str(tmp_path / "prior.safetensors")]
    assert prior.main([*onward, "--out", str(tmp_path / "on"), "--widths", "16,40"]) == 0
    wider = load_pixel_prior(tmp_path / "on" / "prior.safetensors")
    assert wider.spec.multiple_of == 4 and wider.network.enc[1][0].a.out_channels == 40


def test_any_pixel_prior_is_fine_tuned(tmp_path):
    """A network of discrete times leaves as a diffusers folder that gives back the same prior."""
    from diffusers import UNet2DModel

    network = UNet2DModel(
        block_out_channels=(32, 64), layers_per_block=1, norm_num_groups=32,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"), in_channels=3, out_channels=3,
    )
    sigmas = vp_sigmas(torch.float32)
    spec = PriorSpec(multiple_of=2, sigma_min=0.01, sigma_max=157.0, sigmas=sigmas)
    given = DiscretePrior(network, spec)
    task = prior.PriorTask(given, torch.zeros(2, 3, 16, 16))
    options = prior.PriorOptions(out=str(tmp_path), steps=2, batch=6, side=16, warm_up=0)
    crops = [[torch.full((3, 16 * f, 16 * f), 0.2)] * 12 for f in (1, 2, 4)]
    before = [p.detach().clone() for p in network.parameters()]
    for _ in loop.train(task, prior.Resolutions(crops, 0), options, loop.start(options)):
        pass
    moved = [not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)]
    assert all(moved)
    prior.write_prior(given, options, {"psnr_25": 1.0}, task.held_out)
    loaded = load_pixel_prior(tmp_path / "prior")
    assert (loaded.spec.sigmas / sigmas - 1).abs().max() < 1e-3
    x, s = torch.linspace(-1, 1, 768).reshape(1, 3, 16, 16), torch.tensor([0.4])
    with torch.inference_mode():
        assert torch.allclose(loaded.denoise(x, s), given.denoise(x, s), atol=1e-4)


def test_the_loss_is_edms(tmp_path):
    """A denoiser that always answers 0 has the closed form E[weight] |x0|^2."""

    class Zero(nn.Module):
        def forward(self, x, *_):
            return torch.zeros_like(x)

    class Nothing:
        spec = replace(PriorSpec(), sigmas=None)
        network = nn.Linear(1, 1)

        def denoise(self, x, sigma, factor=1):
            return torch.zeros_like(x) + 0.1 * factor

    task = prior.PriorTask(Nothing(), torch.zeros(1))
    x0 = torch.full((3, 3, 8, 8), 0.5)
    g = torch.Generator().manual_seed(2)
    factors = torch.tensor([1, 2, 4])
    sigma = prior_loss.draw_sigmas(factors, torch.Generator().manual_seed(2), Nothing.spec)
    loss = task((x0, factors), g)["loss"]
    weight = (sigma**2 + 0.25) / (0.25 * sigma**2)
    wanted = (weight * (torch.tensor([0.1, 0.2, 0.4]) - 0.5) ** 2).mean()
    assert float(loss) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_noise_levels_are_those_of_the_resolution(factor):
    """85 % ln-uniform where a sampler meets this resolution, the rest anywhere."""
    factors = torch.full((20000,), factor)
    sigma = prior_loss.draw_sigmas(factors, torch.Generator().manual_seed(0), PriorSpec())
    low, high = prior_loss.OFTEN[factor]
    a, b = math.log(0.005), math.log(80.0)
    by_chance = (math.log(high) - math.log(low)) / (b - a)
    inside = ((sigma >= low) & (sigma <= high)).float().mean()
    assert float(inside) == pytest.approx(0.85 + 0.15 * by_chance, abs=0.01)
    assert 0.005 <= float(sigma.min()) < 0.01 and 60 < float(sigma.max()) <= 80
    middle = ((sigma >= low) & (sigma <= (low * high) ** 0.5)).float().mean()
    assert float(middle / inside) == pytest.approx(0.5, abs=0.02)


def test_some_samples_hold_less_noise_than_is_told():
    kept = prior_loss.held_share(20000, torch.Generator().manual_seed(0))
    calmer = kept[kept < 1]
    assert len(calmer) / len(kept) == pytest.approx(0.15, abs=0.01) and kept.max() == 1
    assert calmer.min() < 0.01 and float(calmer.mean()) == pytest.approx(0.5, abs=0.02)


def test_a_wider_network_begins_as_the_narrow_one(draw):
    """On every level and at every noise level, and then learns with all its channels."""
    narrow = PixelNetwork((8, 12, 16), blocks=1, embedding=24)
    for weight in narrow.parameters():  # nothing may hide behind a zero
        nn.init.normal_(weight, std=0.2)
    wide = grown(narrow, (12, 12, 40))
    x, c, level = draw(3, 3, 16, 24), torch.tensor([-1.0, 0.1, 0.9]), torch.tensor([0.0, 1.0, 2.0])
    out = wide(x, c, level)
    assert torch.allclose(out, narrow(x, c, level), atol=1e-5 * float(out.detach().abs().max()))
    out.square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in wide.parameters())
    larger = wide.enc[2][0].b.weight
    assert larger[16:].std() > 0 and (larger[:16, 16:] == 0).all()
    assert (larger.grad[:16, 16:] != 0).all()


@pytest.mark.parametrize("widths", [(8, 10, 16), (8, 12), (8, 12, 16, 20)])
def test_what_is_no_widening_is_refused(widths):
    with pytest.raises(ValueError, match=r"has 8,12,16 channels and cannot become"):
        grown(PixelNetwork((8, 12, 16)), widths)


def test_a_deeper_network_begins_as_the_shallow_one(draw):
    """New blocks add nothing, and their last convolutions are what moves first."""
    shallow = PixelNetwork((8, 12), blocks=1, embedding=24)
    for weight in shallow.parameters():
        nn.init.normal_(weight, std=0.2)
    deep = grown(shallow, (8, 16), blocks=3)
    x, c, level = draw(2, 3, 16, 24), torch.tensor([-1.0, 0.9]), torch.tensor([0.0, 2.0])
    out = deep(x, c, level)
    assert torch.allclose(out, shallow(x, c, level), atol=1e-5 * float(out.detach().abs().max()))
    out.square().sum().backward()
    assert len(deep.enc[0]) == len(deep.dec[0]) == 3
    assert (deep.enc[1][2].b.weight.grad[:12] != 0).all()  # no one reads the new channels yet
    with pytest.raises(ValueError, match="has 3 blocks per resolution and cannot keep 2"):
        grown(deep, (8, 16), 2)


def test_it_starts_from_a_checkout_of_any_name():
    """The folder of the pack may hold a hyphen and a dot, and be started from elsewhere."""
    command = [sys.executable, str(ROOT / "training")]
    wrong = subprocess.run([*command, "x"], capture_output=True, text=True, cwd="/")
    assert wrong.returncode == 2 and "name one of feature_injection, noise" in wrong.stderr
    shown = subprocess.run([*command, "prior", "--help"], capture_output=True, text=True, cwd="/")
    assert shown.returncode == 0 and "--like" in shown.stdout, shown.stderr
