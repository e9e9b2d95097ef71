"""The losses of the noise predictor, and its training for latents and with a critic."""

import csv

import diffusers_folders
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from undegrade.models import latent, noise_predictor
from undegrade.models.predictors import load_noise_predictor
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.training import critic, data, inversion_loss, loop
from undegrade.training import noise_predictor as script
from undegrade.training.command import write_weights

SHORT = ("--canvases", "1", "--side", "64", "--batch", "4", "--warm-up", "2")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """One canvas of 192 pixels, and few crops of another to validate on."""
    drawn = data.render
    monkeypatch.setattr(script, "HELD_OUT", 2)
    monkeypatch.setattr(script, "UNSEEN", 1)
    monkeypatch.setattr(data, "render", lambda *a: drawn(*a, side=192))


class Given(nn.Module):
    """A critic whose two maps are multiples of what it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x, sigma):
        return [self.weight * x, -F.avg_pool2d(x, 2) * sigma[:, None, None, None]]


def test_hinge_losses_in_closed_form(draw):
    own = Given()
    x0, truth = draw(2, 1, 4, 4).requires_grad_(), draw(2, 1, 4, 4)
    sigma = torch.tensor([0.5, 2.0])
    s = sigma[:, None, None, None]
    a, b = (F.avg_pool2d(x, 2) * s for x in (x0, truth))
    false = (F.relu(1 + 2 * x0).mean() + F.relu(1 - a).mean()) / 2
    true = (F.relu(1 - 2 * truth).mean() + F.relu(1 + b).mean()) / 2
    loss = critic.critic_loss(own, x0, truth, sigma)
    assert torch.allclose(loss, (false + true) / 2)
    loss.backward()
    assert x0.grad is None and own.weight.grad.abs() > 0
    own.weight.grad = None
    loss = critic.generator_loss(own, x0, sigma)
    assert torch.allclose(loss, -(2 * x0.mean() - a.mean()) / 2)
    loss.backward()
    assert own.weight.grad is None
    assert torch.allclose(x0.grad, (-(2 - s) / 2 / x0.numel()).expand_as(x0), atol=1e-7)


def test_the_critic_sees_the_level_and_three_resolutions(draw):
    own = critic.Critic(4)
    x, sigma = draw(2, 4, 24, 16), torch.tensor([0.3, 0.3])
    maps = own(x, sigma)
    assert [m.shape for m in maps] == [(2, 1, 12, 8), (2, 1, 6, 4), (2, 1, 3, 2)]
    assert not torch.allclose(maps[0], own(x, 2 * sigma)[0])
    assert torch.equal(own(50 * x.sign(), sigma)[2], own(10 * x.sign(), sigma)[2])


def test_distances():
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) / 10
    assert inversion_loss.square_distance(ramp, ramp + 0.5) == pytest.approx(0.25)
    assert inversion_loss.edge_distance(ramp, ramp + 0.5) == pytest.approx(0, abs=1e-6)
    assert inversion_loss.edge_distance(ramp, ramp.flip(3)) == pytest.approx(0, abs=1e-6)
    flat = torch.zeros(1, 1, 8, 8)
    slopes = (0.1 * 6 / 8 + 0.05 * 2 / 8, 0.2 * 2 / 4 + 0.1 * 2 / 4)  # half of it at the borders
    assert inversion_loss.edge_distance(ramp, flat) == pytest.approx(sum(slopes) / 2, abs=2e-3)


def task(**given):
    prior = load_pixel_prior(BUILT_IN)
    options = script.PredictorOptions(widths="16,24", **given)
    predictor = script.made(options, prior)
    diffusers_folders.seeded(predictor.network).requires_grad_(True)
    low, high = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 32, 32)
    return inversion_loss.PredictorTask(predictor, prior, options, (low, high))


def test_starts_cover_the_interval_or_the_list():
    known = torch.tensor(task().predictor[0].trained_sigmas)
    any_of_them = task().levels(4000, torch.Generator().manual_seed(0))
    assert known.min() <= any_of_them.min() and any_of_them.max() <= known.max()
    middle = (known.min() * known.max()).sqrt()
    assert (any_of_them < middle).float().mean() == pytest.approx(0.5, abs=0.03)
    listed = task(starts="listed").levels(4000, torch.Generator().manual_seed(0))
    assert torch.equal(listed.unique(), known.sort().values)


def test_the_critic_counts_from_its_step_on(draw):
    batch = (draw(2, 3, 8, 8) / 4, draw(2, 3, 32, 32) / 4)
    own = task(adversarial=0.1, adversarial_from=2)
    terms = {}
    for own.step in (2, 3):
        terms[own.step] = own(batch, torch.Generator().manual_seed(1))
    assert terms[2]["adversarial"] == 0 != terms[3]["adversarial"]
    assert torch.equal(terms[2]["critic"], terms[3]["critic"])
    plain = task()(batch, torch.Generator().manual_seed(1))
    assert plain.keys() == {"square", "edges"} and torch.equal(plain["square"], terms[2]["square"])


def test_a_run_with_a_critic_goes_on_as_it_would_have(tmp_path, draw):
    """As it would have without an interruption."""
    batch = [(draw(3, 8, 8) / 4, draw(3, 32, 32) / 4) for _ in range(12)]
    ended = []
    for name, stops in (("whole", [0]), ("cut", [3, 0])):
        for stop in stops:
            options = script.PredictorOptions(
                out=str(tmp_path / name), steps=6, batch=2, save_every=2, validate_every=3,
                adversarial=0.1, adversarial_from=2, widths="16,24",
            )
            accelerator = loop.start(options)
            own = task(adversarial=0.1, adversarial_from=2)
            for step in loop.train(own, batch, options, accelerator):
                if step == stop:
                    break
        ended.append([*own.network.parameters(), *own.critic.parameters()])
    assert len(ended[0]) > 40 and all(map(torch.equal, *ended))
    fresh = task(adversarial=0.1).critic
    assert not torch.equal(ended[0][-1], list(fresh.parameters())[-1])
    with (tmp_path / "whole" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["critic"]) > 0 and float(rows[-1]["adversarial"]) != 0


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A small Stable Diffusion folder."""
    diffusers_folders.latent_folder(tmp_path / "small-turbo")
    told = torch.zeros(2, 6, diffusers_folders.LATENT["cross_attention_dim"])
    monkeypatch.setattr(latent, "embed_texts", lambda *a: told)
    return tmp_path / "small-turbo"


@pytest.fixture
def published(tmp_path):
    """A file of the published predictor's layout, narrow."""
    sizes = noise_predictor.Sizes((64, 64), (1, 1), 32, 64, noise_predictor.HEAD)
    network = diffusers_folders.seeded(noise_predictor.NoisePredictorNetwork(sizes))
    file = tmp_path / "np.safetensors"
    write_weights(nn.ModuleDict({"encoder": network}), file, {}, torch.float32)
    return file


def test_a_published_predictor_is_trained_further_on_latents(folder, published, tmp_path):
    out = tmp_path / "run"
    given = ["--prior", str(folder), "--like", str(published), "--starts", "listed"]
    given += ["--out", str(out), "--steps", "8", "--rate", "6e-3", "--validate-every", "4"]
    assert script.main([*SHORT, *given, "--average", "0.5"]) == 0
    with (out / "metrics.csv").open(newline="") as file:
        losses = [float(row["square"]) + float(row["edges"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.97 * losses[0], losses
    made = load_noise_predictor(out / "predictor.safetensors")
    mean, _ = made.predict(torch.zeros(1, 3, 16, 16), torch.tensor([0.5]))
    first = load_noise_predictor(published).predict(torch.zeros(1, 3, 16, 16), torch.tensor([0.5]))
    assert mean.shape == (1, 4, 8, 8) and not torch.equal(mean, first[0])
    said = read_tensors(out / "predictor.safetensors")[1]
    assert said["prior"] == "small-turbo" and said["sigmas"].startswith("0.6932, 0.5693")
    assert str(tmp_path) not in str(said)


def test_predictors_of_another_kind_and_crops_that_do_not_fit(folder, published):
    prior = load_pixel_prior(BUILT_IN)
    with pytest.raises(ValueError, match=r"8 times smaller than the picture, .* name a predictor"):
        script.made(script.PredictorOptions(like=str(published)), prior)
    turbo = latent.load_diffusers_prior(folder)
    with pytest.raises(ValueError, match=r"1 times smaller .* are 8 times smaller"):
        script.made(script.PredictorOptions(), turbo)
    with pytest.raises(ValueError, match=r"a side of 80 pixels; np\.safetensors needs a"):
        script.made(script.PredictorOptions(like=str(published), side=80), turbo)
