"""Training of the region entropy regressor: what is recorded, the loss, the scores, a short run."""

import csv
import json

import pytest
import torch
from exact_regions import ExactTiles

from undegrade.models.codec import Identity
from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.models.region_regressor import (
    RegionRegressor,
    RegressorNetwork,
    Trained,
    load_region_regressor,
)
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.models.weights import read_tensors
from undegrade.pipelines.adadiffsr.quality_maps import full_reference, no_reference
from undegrade.pipelines.adadiffsr.regions import RegionOptions
from undegrade.pipelines.adadiffsr.trained_gain import TrainedGain
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.schedule import karras
from undegrade.pipelines.tiling import TileGrid
from undegrade.training import data, records, regions
from undegrade.training.records import Records, Samples, rank_correlation, sampled

SIGMAS = karras(6, 0.5, 0.02)
PRIOR = GaussianPrior(std=0.3, spec=PriorSpec(name="gaussian", multiple_of=8))


def made(draw, crops=3, side=16) -> Records:
    states = 0.3 * draw(crops, 6, 2, 3, side, side)
    quality = records.qualities(PRIOR, states[:, :, 1])
    return Records(states.half(), (0.3 * draw(crops, 3, side, side)).half(), quality, SIGMAS)


def test_a_crop_is_sampled_at_every_node(draw):
    """States, predictions and their order are those of the exact denoiser."""
    z = 0.3 * draw(2, 3, 16, 16)
    options = RegionOptions(solver="euler", noise=0.8)
    states = sampled(PRIOR, z, TileGrid(16, 16, 16, 0), SIGMAS, [4, 9], options, None)
    assert states.shape == (2, 6, 2, 3, 16, 16)
    noise = per_sample_noise([4, 9])(z)
    assert torch.allclose(states[:, 0, 0], z + 0.8 * SIGMAS[0].item() * noise, atol=1e-6)
    exact = ExactTiles(torch.zeros_like(z), torch.full_like(z, 0.3))
    for i, sigma in enumerate(SIGMAS.tolist()):
        x, x0_hat = states[:, i].unbind(1)
        assert torch.allclose(x0_hat, exact(x, torch.full((2,), sigma), [0, 1]), atol=1e-5)
        if i < 5:
            r = SIGMAS[i + 1].item() / sigma
            assert torch.allclose(states[:, i + 1, 0], r * x + (1 - r) * x0_hat, atol=1e-5)
    tiles = sampled(PRIOR, z, TileGrid(16, 16, 8, 0), SIGMAS, [4, 9], options, None)
    assert torch.equal(tiles[5], states[1, ..., :8, 8:]), "picture by picture, row by row"


def test_quality_is_against_the_crops_own_last_prediction(draw):
    predictions = 0.3 * draw(2, 4, 3, 16, 24)
    found = records.qualities(PRIOR, predictions)
    assert found.shape == (2, 4, 2, 2, 3) and torch.equal(found[:, -1, 0], torch.ones(2, 2, 3))
    last = predictions[1, -1:].clamp(-1, 1)
    assert torch.allclose(found[1, 2, 0], full_reference(predictions[1, 2:3], last)[0])
    assert torch.equal(found[1, 2, 1], no_reference(predictions[1, 2:3])[0])
    assert isinstance(PRIOR.codec, Identity)


def test_rises_add_up_to_the_whole_way(draw):
    known = made(draw)
    whole = (known.rises * known.steps[:, None, None, None]).sum(1)
    assert torch.allclose(whole.float(), known.quality[:, -1] - known.quality[:, 0], atol=1e-5)
    gains = records.true_gains(known)
    by_hand = known.quality.diff(dim=1)[1, 2, 0].double().flatten().quantile(0.97)
    assert gains[1, 2, 0].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_samples_belong_to_their_number(draw):
    known = made(draw)
    samples = Samples(known, 0.3, 5, 200)
    again = Samples(known, 0.3, 5, 200)
    assert all(torch.equal(samples[7][k], again[7][k]) for k in samples[7])
    firsts, nodes = 0, set()
    for i in range(200):
        one = samples[i]
        assert one["x"].shape == (3, 16, 16) and one["target"].shape == (2, 2, 2)
        assert one["late"] == float(one["sigma"] <= 0.3)
        if one["sigma_previous"] == one["sigma"]:
            firsts += 1
            assert torch.equal(one["previous"], one["x0_hat"])
        nodes.add(round(one["sigma"].item(), 6))
    assert nodes == {round(s, 6) for s in SIGMAS[:-1].tolist()} and 20 < firsts < 100


def test_maps_are_turned_with_the_pictures():
    """A picture that brightens to the right keeps its target beside it."""
    ramp = torch.linspace(-1, 1, 16).expand(3, 16, 16)
    states = ramp.expand(1, 6, 2, 3, 16, 16).half()
    blocks = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    quality = torch.arange(6.0)[:, None, None, None] * blocks
    quality = quality[None].expand(1, 6, 2, 2, 2)
    samples, seen = Samples(Records(states, states[:, 0, 0], quality, SIGMAS), 1.0, 0, 40), set()
    for i in range(40):
        one = samples[i]
        means = torch.nn.functional.avg_pool2d(one["x0_hat"], 8)[0]
        assert torch.equal(means > 0, one["target"][0] > 0)
        seen.add(tuple((means > 0).flatten().tolist()))
    assert len(seen) == 4


class Perfect(torch.nn.Module):
    """Answers the targets."""

    def __init__(self, y):
        super().__init__()
        self.y, self.one = y, torch.nn.Parameter(torch.zeros(1))

    def forward(self, *_):
        return self.y


def trained(known: Records) -> Trained:
    return Trained("p", ("",), tuple(SIGMAS.tolist()), (0.1, 0.2), (1.0, 1.0), 1.0, "")


def test_the_loss_is_zero_for_the_truth_and_masked_early(draw):
    known = made(draw)
    batch = torch.utils.data.default_collate([Samples(known, 0.1, 0, 8)[i] for i in range(8)])
    scale = torch.tensor([0.1, 0.2])[:, None, None]
    target = batch["target"].sign() * (batch["target"].abs() / scale).log1p()
    task = regions.RegressorTask(Perfect(target), trained(known), known)
    assert all(term < 1e-9 for term in task(batch, torch.Generator()).values())
    task = regions.RegressorTask(Perfect(target + 1.0), trained(known), known)
    terms = task(batch, torch.Generator())
    assert terms["full_reference"].item() == pytest.approx(1, abs=1e-4)
    assert terms["no_reference"].item() == pytest.approx(1, abs=1e-4) and batch["late"].sum() > 0
    early = {**batch, "late": torch.zeros(8)}
    assert task(early, torch.Generator())["no_reference"] == 0


def test_a_regressor_that_knows_is_perfectly_correlated(draw):
    known = made(draw, crops=4)

    class Knowing(RegionRegressor):
        def predict(self, x, x0_hat, previous, z_lr, sigma, sigma_previous):
            node = (sigma[0] == SIGMAS).nonzero().item()
            return known.rises[:, node]

    scores = regions.correlations(Knowing(RegressorNetwork(), trained(known)), known)
    assert scores["rank_full"] == pytest.approx(1) and scores["rank_none"] == pytest.approx(1)
    assert scores["rank_full_within_nodes"] == pytest.approx(1)
    assert abs(scores["rank_full_weight_free"]) < 0.99
    own = regions.measured(Knowing(RegressorNetwork(), trained(known)), known)
    gains = records.true_gains(known)
    full = gains[..., 0].sum(1).quantile(0.9).item()
    none = gains[..., 1].cumsum(1).max(1).values.quantile(0.9).item()
    assert own.spans == pytest.approx((full, none), rel=1e-5)
    lost = (gains[..., 0] * SIGMAS.log().diff().neg() / 2).sum(1).max().item()
    assert own.loss == pytest.approx(lost / full, rel=1e-5), "the hardest quarter of four"
    with pytest.raises(ValueError, match="not even hard regions gain; ask for more steps"):
        regions.measured(RegionRegressor(Perfect(-torch.ones(4, 2, 2, 2)), trained(known)), known)


def test_rank_correlation_is_scipys(draw):
    from scipy.stats import spearmanr

    a, b = draw(50).double(), draw(50).double().round()
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a.numpy(), b.numpy())[0])
    assert rank_correlation(a, a.exp()) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)


def test_smoke_regions(tmp_path, monkeypatch):
    drawn = data.render
    monkeypatch.setattr(regions, "HELD_OUT", 2)
    monkeypatch.setattr(regions, "UNSEEN", 2)
    monkeypatch.setattr(data, "render", lambda *a: drawn(*a, side=96))
    arguments = ["--out", str(tmp_path), "--canvases", "2", "--crops", "2", "--side", "64"]
    arguments += ["--tile", "32", "--base-steps", "10", "--widths", "8,12,16", "--rate", "3e-3"]
    arguments += ["--warm-up", "5", "--batch", "8", "--average", "0.9"]
    assert regions.main([*arguments, "--steps", "100", "--validate-every", "50"]) == 0
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [float(row["full_reference"]) + float(row["no_reference"]) for row in rows]
    assert len(losses) == 2 and losses[-1] < 0.7 * losses[0], losses
    file = tmp_path / "regressor.safetensors"
    regressor, prior = load_region_regressor(file), load_pixel_prior(BUILT_IN)
    regressor.check(prior)
    _, said = read_tensors(file)
    assert said["prior"] == BUILT_IN.name and said["samples"] == "800"
    assert said["command"].startswith("python training regions --steps 100 --batch 8")
    assert "no photographs" in said["data"] and json.loads(said["held_out_scores"])
    assert len(regressor.trained.sigmas) == 10 and min(regressor.trained.spans) > 0
    known = Records(**load(tmp_path / "records-unseen-2-1.safetensors"), sigmas=torch.tensor(
        regressor.trained.sigmas, dtype=torch.float64))
    gains = regions.predicted(TrainedGain(regressor), known)
    assert gains.sum(1).quantile(0.9, dim=0)[0].item() == pytest.approx(1, abs=0.05), "a hard one"
    onward = [*arguments, "--steps", "2", "--like", str(file), "--out", str(tmp_path / "on")]
    assert regions.main(onward) == 0


def load(file):
    from safetensors.torch import load_file

    return load_file(str(file))
