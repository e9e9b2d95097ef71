"""Training of feature injection at StableSR's maps: places in a run, gains, loss, a short run."""

import csv
import json
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import stablesr_modules
import torch
from diffusers_folders import latent_folder, stable_diffusion_noise
from region_guiders import drawn

from undegrade.models import latent
from undegrade.models.codec import Identity
from undegrade.models.discrete import DiscretePrior
from undegrade.models.feature_injection import StructInjection, read_injection
from undegrade.models.noise_table import stable_diffusion_sigmas, timestep_of
from undegrade.models.prior import PriorSpec
from undegrade.models.stablesr import read_module
from undegrade.models.weights import read_tensors
from undegrade.pipelines.adadiffsr.calibration import EVERY_STEP
from undegrade.pipelines.adadiffsr.information_gain import WeightFree, closed_form
from undegrade.pipelines.adadiffsr.regions import RegionOptions, Task
from undegrade.pipelines.adadiffsr.sampler import RegionRun
from undegrade.pipelines.tiling import TileGrid
from undegrade.training import data, feature_injection
from undegrade.training.command import read_options
from undegrade.training.injection_loss import InjectionTask, Visit, visit

TABLE = stable_diffusion_sigmas()
SPEC = PriorSpec(4, sigma_min=TABLE[0].item(), sigma_max=TABLE[-1].item(), sigmas=TABLE)


@dataclass
class Pixels(Identity):
    """Pictures as they are, in the place of latents of an eighth."""

    factor: int = 8


def task_of(network=None, prediction="epsilon", unknown=0.0) -> InjectionTask:
    prior = DiscretePrior(network, SPEC, prediction, None, Pixels())
    return InjectionTask(StructInjection(32, 1), prior, None, 20, unknown, (None, None))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_places_are_evenly_drawn_and_lie_whole_base_steps_apart():
    nodes = task_of().nodes
    assert len(nodes) == 21 and nodes[[0, -1]].tolist() == pytest.approx(TABLE[[-1, 0]].tolist())
    seen = visit(nodes, 20_000, 0.25, generator())
    logs = nodes.log().numpy()[::-1]
    first, last, following, place = 20 - np.interp(
        seen.sigmas.log().numpy(), logs, np.arange(21.0)
    )
    gone, on, told = place - last, last - first, seen.known.numpy()
    assert 0.25 * 1.1 < 1 - told.mean() < 0.5, "a quarter, and those at the beginning of a run"
    for steps in (gone[told], on[told]):
        assert np.abs(steps - steps.round()).max() < 1e-6
        assert set(steps.round()) == {1, 2, 3, 4}
    assert 0.2 < (np.abs(gone - on)[told] < 0.5).mean() < 0.3, "each drawn for itself"
    assert np.abs(on - seen.steps.numpy())[told].max() < 1e-6
    assert np.abs(following - last - 1)[told].max() < 1e-6
    times = timestep_of(seen.sigmas[3, :2000], TABLE).tolist()
    counts = np.histogram(times, 5, (0, 999))[0]
    assert counts.min() > 330 and counts.max() < 470, "as many in every fifth of the timesteps"
    early = visit(nodes, 5000, 0.0, generator())
    assert not early.known[early.sigmas[3] > nodes[2]].any() and early.known.float().mean() > 0.7
    assert not visit(nodes, 500, 1.0, generator()).known.any()


def test_gains_are_those_that_a_run_knows():
    """A denoiser that sees the level only, so that a run's predictions are those of any state."""
    task, z = task_of(), drawn(3, 4, 16, 24)

    def sharper(sigma):
        return (1 / (1 + sigma.float()))[:, None, None, None] * z

    notes, gain = [], WeightFree(closed_form(task.nodes[:-1], 8))

    def noted(seen):
        notes.append(gain(seen))
        return notes[-1]

    run = RegionRun(
        lambda x, sigma, tiles: sharper(sigma)[: len(tiles)], Task(
            TileGrid(16, 24, 24, 0), z, 0 * z, task.nodes[:-1], 1.0
        ), EVERY_STEP, noted, gain.spans, RegionOptions(), None, 3,
    )  # fmt: skip
    list(run)
    asked = []
    task.denoise = lambda x, sigma, z_lr, gains: asked.append((x, gains)) or sharper(sigma)
    nodes = torch.tensor([5, 9, 14])
    levels = torch.stack([task.nodes[nodes + i] for i in (-1, 0, 1, 1)])
    ones = torch.ones(3, dtype=torch.float64)
    known, noise = torch.tensor([True, True, False]), drawn(3, 4, 16, 24, seed=3)
    gains = task.gains(z, noise, z, Visit(levels, ones, known))
    for row, node in enumerate((5, 9)):
        rises = notes[node].full_reference[row], notes[node].no_reference[row]
        assert gains[row].tolist() == pytest.approx([20 * r.item() for r in rises], rel=1e-4)
    assert gains[0].abs().min() > 1e-3 and gains[2].tolist() == [0, 0]
    assert all(torch.equal(given, torch.zeros(3, 2)) for _, given in asked)
    for (x, _), sigma in zip(asked, levels, strict=False):
        assert torch.allclose(x, z + sigma.float()[:, None, None, None] * noise)


class Fixed(torch.nn.Module):
    """Predicts the same numbers for all."""

    def __init__(self):
        super().__init__()
        self.f = torch.nn.Parameter(drawn(1, 4, 8, 8, seed=4), requires_grad=False)

    def forward(self, x, t):
        return SimpleNamespace(sample=self.f.expand_as(x))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_square_error_of_what_the_network_predicts(prediction):
    task, high = task_of(Fixed(), prediction), drawn(2, 4, 8, 8)
    task.denoise = lambda x, sigma, *_: task.frozen[0].denoise(x, sigma)
    low = drawn(2, 4, 2, 2, seed=1)
    errors = task.errors((low, high), generator(5))
    again = generator(5)
    n = torch.randn(high.shape, generator=again)
    sigma = visit(task.nodes, 2, 0.0, again).sigmas[3].float()[:, None, None, None]
    v = (n - sigma * high) / (1 + sigma**2).sqrt()
    target = {"epsilon": n, "v_prediction": v, "sample": high}[prediction]
    wanted = (task.frozen[0].network.f - target).square().flatten(1).mean(1)
    assert torch.allclose(errors, wanted, rtol=2e-3)
    assert task((low, high), generator(5))["loss"].item() == pytest.approx(errors.mean().item())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of Stable Diffusion and a module beside it."""
    root = tmp_path_factory.mktemp("stable")
    latent_folder(root / "tiny", stable_diffusion_noise(), **stablesr_modules.UNET)
    torch.save(stablesr_modules.tensors(), root / "module.ckpt")
    return root


@pytest.fixture(autouse=True)
def small(monkeypatch):
    known = data.render
    monkeypatch.setattr(data, "render", lambda *a: known(*a, side=96))
    monkeypatch.setattr(latent, "embed_texts", lambda _, texts: drawn(len(texts), 8, 24))
    monkeypatch.setattr(feature_injection, "HELD_OUT", 2)
    monkeypatch.setattr(feature_injection, "UNSEEN", 2)


def arguments(folder, out, *more) -> list[str]:
    given = ["--prior", str(folder / "tiny"), "--module", str(folder / "module.ckpt")]
    return [*given, "--side", "64", "--canvases", "2", "--out", str(out), *more]


def real_task(folder, network) -> InjectionTask:
    options = read_options(
        feature_injection.InjectionOptions, arguments(folder, folder / "run"), ""
    )
    prior, module = feature_injection.prior_of(options), read_module(options.module)
    return InjectionTask(network, prior, module, 20, 0.0, feature_injection.held_out(options))


def test_untrained_it_is_stablesr_and_gains_matter_afterwards(folder):
    network = StructInjection(128)
    task = real_task(folder, network)
    pair = task.held_out
    assert torch.equal(task.errors(pair, generator(1)), task.errors(pair, generator(1), False))
    for phi in network.phi:
        phi.out.weight.data = 0.05 * drawn(*phi.out.weight.shape)
    changed = task.errors(pair, generator(1))
    assert (changed - task.errors(pair, generator(1), False)).abs().min() > 1e-6
    with torch.no_grad():
        z_lr, sigma = drawn(2, 4, 8, 8), torch.tensor([0.5, 3.0])
        ours = task.denoise(z_lr, sigma, z_lr, torch.tensor([[2.0, 0.0], [0.0, 0.0]]))
        none = task.denoise(z_lr, sigma, z_lr, torch.zeros(2, 2))
    assert (ours - none)[0].abs().max() > 1e-3 and torch.allclose(ours[1], none[1], atol=1e-4)


def test_smoke_feature_injection(folder, tmp_path):
    given = ["--batch", "2", "--rate", "3e-2", "--warm-up", "1", "--average", "0.5"]
    given += ["--steps", "10", "--validate-every", "5", "--unknown", "0.2"]
    assert feature_injection.main(arguments(folder, tmp_path, *given)) == 0
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    assert rows[-1]["held_out"] < 0.96 * rows[-1]["without"], rows
    assert len({row["without"] for row in rows}) == 1, "what is frozen stays"
    file, module = tmp_path / "injection.safetensors", read_module(folder / "module.ckpt")
    loaded, said = read_injection(file), read_tensors(file)[1]
    loaded.check(module)
    assert len(loaded.network.phi) == 4 and loaded.module == "module.ckpt"
    assert said["command"].startswith("python training feature_injection --steps 10 --batch 2")
    assert said["samples"] == "20" and said["prior"] == "tiny" and "S-Lab" in said["license"]
    assert "no photographs" in said["data"] and "StableSR" in said["degradation"]
    scores = json.loads(said["held_out_scores"])
    assert scores["held_out"] == pytest.approx(rows[-1]["held_out"], rel=1e-4)
    onward = [*given[:2], "--steps", "1", "--like", str(file), "--rate", "0"]
    assert feature_injection.main(arguments(folder, tmp_path / "on", *onward)) == 0
    again = read_injection(tmp_path / "on" / "injection.safetensors").network.state_dict()
    assert all(torch.equal(a, again[k]) for k, a in loaded.network.state_dict().items())


def test_what_is_missing_or_of_another_kind_is_said(folder, tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit):
        feature_injection.main(["--prior", "x"])
    assert "Name a diffusers folder by --prior and a StableSR module" in capsys.readouterr().err
    monkeypatch.setattr(feature_injection, "load_diffusers_prior", lambda *_: task_of().frozen[0])
    with pytest.raises(ValueError, match="prior is a pixel prior; give Stable Diffusion"):
        feature_injection.main(arguments(folder, tmp_path))
