"""MUSIQ and BRISQUE of pyiqa in the regressor's training, with a stand-in of its interface.

The stand-in does what pyiqa 0.1.16 does: `create_metric(name, device=...)` gives a callable on
pictures in [0, 1], which it asserts; MUSIQ answers (B, 1) up to about 100, BRISQUE (B,) with 0 the
best, and NaN for a flat picture.
"""

import json
import sys
from types import ModuleType

import pytest
import torch
from diffusers_folders import latent_folder
from region_guiders import drawn

from undegrade.models import latent
from undegrade.models.latent import load_diffusers_prior
from undegrade.models.region_regressor import load_region_regressor
from undegrade.models.weights import read_tensors
from undegrade.pipelines.adadiffsr import quality_maps
from undegrade.training import data, no_reference, records, regions
from undegrade.training.no_reference import named, quality_of

CPU = torch.device("cpu")


class Pyiqa(ModuleType):
    """pyiqa, by its interface."""

    def __init__(self):
        super().__init__("pyiqa")
        self.made, self.batches = [], []

    def create_metric(self, metric_name, as_loss=False, device=None, **known):
        assert not as_loss and not known
        self.made.append((metric_name, device))

        def metric(target, ref=None):
            assert target.ndim == 4 and target.shape[1] == 3 and ref is None
            assert target.min() > -1e-6 and target.max() < 1 + 1e-6, "must be normalized to [0, 1]"
            self.batches.append(len(target))
            spread = target.flatten(1).std(1)
            if metric_name == "musiq":
                return (100 * spread)[:, None]
            assert metric_name == "brisque"
            return torch.where(spread > 0, 60 - 100 * spread, torch.nan)

        return metric


@pytest.fixture
def pyiqa(monkeypatch):
    fake = Pyiqa()
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    return fake


def pictures(count=20, side=32):
    """Bright beyond what a picture may be; the last is flat."""
    made = drawn(count, 3, side, side) * torch.linspace(0.1, 1.5, count)[:, None, None, None]
    made[-1] = 0.3
    return made


def test_scores_are_qualities_of_the_whole_tile(pyiqa):
    states, pixels = drawn(20, 4, 16, 24), pictures()
    spread = ((pixels.clamp(-1, 1) + 1) / 2).flatten(1).std(1)
    brisque = (0.4 + spread).clamp(0, 1)
    brisque[-1] = 0.0  # nothing to be seen
    wanted = {"musiq": spread, "brisque": brisque, "musiq+brisque": (spread + brisque) / 2}
    for kind, values in wanted.items():
        found = quality_of(kind, CPU)(states, pixels)
        assert found.shape == (20, 2, 3)
        assert torch.allclose(found, values[:, None, None].expand(-1, 2, 3), atol=1e-6), kind
    names = ["musiq", "brisque", "musiq", "brisque"]
    assert pyiqa.made == [(name, CPU) for name in names]
    assert max(pyiqa.batches) == no_reference.TOGETHER


def test_latent_is_as_before_and_needs_nobody(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    states = drawn(2, 4, 16, 24)
    found = quality_of("latent", CPU)(states, states)
    assert torch.equal(found, quality_maps.no_reference(states))
    said = r"no_reference is musiq and pyiqa is not there; install .* choose latent\."
    with pytest.raises(ImportError, match=said):
        quality_of("musiq", CPU)


def test_metrics_in_words():
    assert named("latent") == quality_maps.METRICS
    assert named("musiq+brisque") == "PSNR-Y, SSIM, NLPD, GMSD; MUSIQ and BRISQUE"


@pytest.fixture
def small(monkeypatch):
    known = data.render
    monkeypatch.setattr(regions, "HELD_OUT", 2)
    monkeypatch.setattr(regions, "UNSEEN", 2)
    monkeypatch.setattr(data, "render", lambda *a: known(*a, side=96))


def told(_, texts):
    """Embeddings that depend on the texts."""
    return torch.stack([drawn(8, 24, seed=len(text)) for text in texts])


def test_smoke_regions_of_a_latent_model_with_the_papers_metrics(
    pyiqa, small, tmp_path, monkeypatch
):
    monkeypatch.setattr(latent, "embed_texts", told)
    latent_folder(tmp_path / "tiny", sample_size=8)
    prior = load_diffusers_prior(tmp_path / "tiny")
    # a random model need not get better from step to step, which `measured` refuses
    monkeypatch.setattr(regions, "measured", lambda regressor, _: regressor.trained)
    arguments = ["--out", str(tmp_path / "run"), "--prior", str(tmp_path / "tiny")]
    arguments += ["--canvases", "2", "--crops", "2", "--side", "64", "--tile", "64"]
    arguments += ["--base-steps", "4", "--start-sigma", "9", "--injection", "0", "--noise", "1"]
    arguments += ["--widths", "8,12,16", "--batch", "4", "--rate", "1e-2", "--warm-up", "2"]
    arguments += ["--no-reference", "musiq+brisque", "--steps", "12", "--validate-every", "12"]
    assert regions.main(arguments) == 0
    regressor = load_region_regressor(tmp_path / "run" / "regressor.safetensors")
    assert regressor.channels == 4 and regressor.trained.metrics.endswith("; MUSIQ and BRISQUE")
    regressor.check(prior)
    with pytest.raises(ValueError, match="was trained with tiny"):
        regressor.check(load_diffusers_prior(tmp_path / "tiny", "another text"))
    said = read_tensors(tmp_path / "run" / "regressor.safetensors")[1]
    assert "--no-reference musiq+brisque" in said["command"] and "rank_none" in json.loads(
        said["held_out_scores"]
    )
    assert "PolyForm Noncommercial" in said["license"]
    file = tmp_path / "run" / "records-train-2-0-musiq+brisque.safetensors"
    kept = read_tensors(file)[0]
    assert kept["quality"].shape == (2, 4, 2, 1, 1) and kept["states"].shape[3:] == (4, 8, 8)
    decoded = prior.codec.decode(kept["states"][0, :, 1].float())
    spread = ((decoded.clamp(-1, 1) + 1) / 2).flatten(1).std(1)
    wanted = (spread + (0.4 + spread).clamp(0, 1)) / 2
    assert torch.allclose(kept["quality"][0, :, 1, 0, 0], wanted, atol=2e-3)


def test_records_of_other_metrics_are_others(pyiqa, small, draw):
    from test_training_regions import PRIOR

    states = 0.3 * draw(2, 4, 3, 16, 24)
    ours = records.qualities(PRIOR, states, quality_of("musiq", CPU))
    plain = records.qualities(PRIOR, states)
    assert torch.equal(ours[:, :, 0], plain[:, :, 0])
    assert (ours[:, :, 1] - plain[:, :, 1]).abs().min() > 1e-3
