"""Inversion Sigmas with a MODEL made of formulas, and Load Noise Predictor."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from inversion_models import LEVELS, TABLE, Eps, V, model
from node_calls import call
from safetensors.torch import save_file

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.models import noise_predictor
from undegrade.models.pixel_predictor import PixelPredictorNetwork

# Inversion Sigmas


@pytest.mark.parametrize(
    ("steps", "times"),
    [(1, [200]), (2, [200, 100]), (3, [200, 100, 50]), (4, [200, 150, 100, 50]),
     (5, [250, 200, 150, 100, 50])],
)  # fmt: skip
def test_sigmas_of_the_published_steps(steps, times):
    sigmas, report = call("UndegradeInversionSigmas", model=model(), steps=steps)
    assert sigmas.tolist() == pytest.approx([*(LEVELS[t] for t in times), 0.0], rel=1e-5)
    assert sigmas.dtype == torch.float32 and sigmas[-1] == 0
    assert [int(line.split()[0]) for line in report.split(": ")[1].split(", ")] == times
    assert "not trained" not in report


def test_sigmas_are_the_model_s_own():
    other = TABLE * 1.0005
    sigmas, report = call("UndegradeInversionSigmas", model=model(Eps(other)), timesteps="180,90")
    assert torch.equal(sigmas, torch.tensor([other[179], other[89], 0.0]))
    assert report.splitlines()[1].startswith("The noise predictor was not trained to start at")


def test_stock_euler_with_the_true_noise_reaches_the_picture(draw):
    """For noise n that the model knows, every Euler step ends on x0."""
    (sigmas, _), x0, n = call("UndegradeInversionSigmas", model=model(), steps=5), *draw(2, 1, 4, 4)
    x = x0 + sigmas[0] * n
    for sigma, following in pairwise(sigmas):
        x = x + (following - sigma) * (x - x0) / sigma
    assert F.mse_loss(x, x0) < 1e-12


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timesteps": "300, 200"}, "start above 250, with more noise than noise predictors"),
        ({"timesteps": "100, 200"}, "whole numbers that fall"),
        ({"model": model(V())}, "model predicts v, flow or the picture"),
    ],
)
def test_refused_steps(given, said):
    with pytest.raises(ValueError, match=said):
        call("UndegradeInversionSigmas", **{"model": model(), **given})


# Load Noise Predictor


def test_a_file_loads_by_name_or_path(tmp_path, monkeypatch):
    network = PixelPredictorNetwork((8, 16), 1, 8)
    save_file(network.state_dict(), tmp_path / "mine.safetensors")
    file = str(tmp_path / "mine.safetensors")
    cls = NODE_CLASS_MAPPINGS["UndegradeLoadNoisePredictor"]
    assert cls.VALIDATE_INPUTS(file) is True
    assert "which is not in models/invsr" in cls.VALIDATE_INPUTS(file + "x")
    (loaded,) = cls().load(file, "bfloat16")
    assert next(loaded.network.parameters()).dtype == torch.bfloat16
    listed = cls.INPUT_TYPES()["required"]["file"][0]
    assert listed[-2:] == list(noise_predictor.known_in("invsr"))
    assert len(set(listed)) == len(listed)
    assert all(cls.VALIDATE_INPUTS(name) is True for name in listed)


def test_a_published_file_that_is_not_there_is_named_with_its_source():
    with pytest.raises(FileNotFoundError, match=r"v5.pth is not in models/invsr; get it from http"):
        call("UndegradeLoadNoisePredictor", file="noise_predictor_sd_turbo_v5.pth")
