"""Nothing of the pack is called in inference mode, nor sees a tensor that was made there."""

import pytest
import torch
from node_calls import call, measured, photo, small_prior

from undegrade import NODE_CLASS_MAPPINGS
from undegrade.nodes.comfyui import wall
from undegrade.nodes.comfyui.region_sampler import RegionSampler
from undegrade.nodes.comfyui.wall import freed, outside
from undegrade.nodes.inversion.predicted_noise import PredictedNoise

OPERATORS = {
    "UndegradeDownscale": {"factor": 2},
    "UndegradeGaussianBlur": {},
    "UndegradeMotionBlur": {"side": 9, "length": 5.0},
    "UndegradeHDRClip": {},
    "UndegradePhaseRetrieval": {},
    "UndegradeJPEG": {},
}
UPDATES = {
    "UndegradeCGMeasurementUpdate": {},
    "UndegradeLangevinMeasurementUpdate": {"iterations": 3},
    "UndegradeGradientMeasurementUpdate": {},
}


@pytest.mark.parametrize("cls", NODE_CLASS_MAPPINGS.values(), ids=NODE_CLASS_MAPPINGS)
def test_every_node_is_behind_it(cls):
    assert getattr(cls, cls.FUNCTION).__code__ is outside(lambda: None).__code__


@pytest.mark.parametrize("callback", [PredictedNoise.generate_noise, RegionSampler.sample])
def test_so_is_what_comfyui_calls_later(callback):
    assert callback.__code__ is outside(lambda: None).__code__


def test_tensors_become_normal_ones_that_share_their_memory():
    with torch.inference_mode():
        latent = {"samples": torch.rand(2, 4, 6, 5)[:, 1:, ::2], "own": [torch.ones(3), "kept"]}
        found = outside(lambda given: given)(latent)
    assert found is not latent and found["own"][1] == "kept"
    pairs = (found["samples"], latent["samples"]), (found["own"][0], latent["own"][0])
    for normal, made in pairs:
        assert made.is_inference() and not normal.is_inference()
        assert torch.equal(normal, made) and normal.data_ptr() == made.data_ptr()
        assert normal.stride() == made.stride()


def test_conjugated_and_negated_ones_keep_their_values():
    with torch.inference_mode():
        given = torch.tensor([1 + 2j]).conj()
        pair = given, given.imag
    assert pair[0].is_conj() and pair[1].is_neg()
    for normal, made in zip(freed(pair), pair, strict=True):
        assert torch.equal(normal, made) and not normal.is_inference()


def test_what_is_no_inference_tensor_is_itself():
    x, prior = torch.ones(2), small_prior()
    assert freed(x) is x and freed(prior) is prior and freed((x, 3))[0] is x


def test_modes_inside():
    def modes(x):
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled(), x.is_inference()

    with torch.inference_mode():
        assert outside(modes)(torch.ones(1)) == (False, False, False)
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("operator", [*OPERATORS, "UndegradeInpaintingMask", "composed"])
def test_comfyuis_mode_changes_no_picture(operator, update):
    """`call` runs nodes in inference mode, with pictures and masks that were made in it."""
    with torch.inference_mode():
        inside = restored(operator, update)
    with torch.no_grad():
        beyond = restored(operator, update)
    assert inside.is_inference() is False
    assert (inside - beyond).abs().max() < 1e-6


def restored(operator, update):
    image = photo(height=32, width=48) * 0.9
    if operator == "UndegradeInpaintingMask":
        mask = (photo(32, 48)[..., 0] > 0.5).float()
        a = call(operator, mask=mask)[0]
    elif operator == "composed":
        a = call(
            "UndegradeComposeOperators",
            first=call("UndegradeDownscale", factor=2)[0],
            second=call("UndegradeJPEG")[0],
        )[0]
    else:
        a = call(operator, **OPERATORS[operator])[0]
    m = call("UndegradeDegradeImage", image=image, operator=a)[1]
    moved = call(update, **UPDATES[update])[0]
    given = {"prior": small_prior(), "measurement": m, "steps": 3, "sigma_max": 5.0}
    return call("UndegradePosteriorSampler", **given, update=moved)[0]


def test_consistency_back_projects_the_same():
    def projected():
        m = measured()[1]
        restored = call("UndegradeMeasurementConsistency", image=photo(), measurement=m)
        return restored[2]

    with torch.inference_mode():
        inside = projected()
    assert torch.equal(inside, projected())


@pytest.mark.parametrize(
    ("version", "refused"),
    [("2.6.0", True), ("1.13.1+cu117", True), ("2.7.0", False), ("2.11.0+cu130", False),
     ("3.0.0a0+git12", False)],
)  # fmt: skip
def test_a_torch_that_is_too_old_is_refused(version, refused, monkeypatch):
    assert bool(wall.too_old(version)) is refused
    monkeypatch.setattr(wall, "REFUSED", wall.too_old(version))
    if refused:
        with pytest.raises(RuntimeError, match=f"needs torch 2.7 or newer and found {version[:4]}"):
            call("UndegradeDownscale", factor=2)
    else:
        call("UndegradeDownscale", factor=2)
