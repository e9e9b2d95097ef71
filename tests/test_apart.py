"""A sample is the same alone and in company, whatever was done to it."""

import pytest
import torch
from node_calls import call, photo
from operator_cases import CASES

from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.compose import Compose
from undegrade.pipelines.operators.inpainting import Inpainting

PICTURES = torch.cat([photo(24, 32), photo(24, 32).flip(1), 1 - photo(24, 32)]) * 0.9 + 0.05
NEAR = 2e-5  # of [0, 1]: what libraries' choice of kernels by the size of a batch may change
ABRUPT = {  # restored one by one: bit for bit
    "JPEG": ("UndegradeJPEG", {"quality": 15}, "UndegradeCGMeasurementUpdate",
             {"iterations": 3}),
    "HDR": ("UndegradeHDRClip", {}, "UndegradeLangevinMeasurementUpdate", {"iterations": 5}),
    "HDR, CG": ("UndegradeHDRClip", {}, "UndegradeCGMeasurementUpdate", {}),
    "phase": ("UndegradePhaseRetrieval", {}, "UndegradeLangevinMeasurementUpdate",
              {"iterations": 5}),
}  # fmt: skip
SMOOTH = {
    "downscale": ("UndegradeDownscale", {"factor": 2}, "UndegradeCGMeasurementUpdate", {}),
    "gaussian": ("UndegradeGaussianBlur", {}, "UndegradeCGMeasurementUpdate", {}),
    "motion": ("UndegradeMotionBlur", {"side": 9, "length": 5.0},
               "UndegradeLangevinMeasurementUpdate", {"iterations": 5}),
    "gradient": ("UndegradeDownscale", {"factor": 2}, "UndegradeGradientMeasurementUpdate", {}),
}  # fmt: skip


def restored(image, operator, update, seed):
    prior = call("UndegradeLoadPixelPrior")[0]
    m = call("UndegradeDegradeImage", image=image, operator=operator, seed=seed)[1]
    given = {"measurement": m, "update": update, "seed": seed, "steps": 4}
    return call("UndegradePosteriorSampler", prior=prior, **given)[0]


def together_and_alone(operator, update):
    together = restored(PICTURES, operator, update, 5)
    alone = [restored(PICTURES[b : b + 1], operator, update, 5 + b) for b in range(3)]
    return together, torch.cat(alone)


@pytest.mark.parametrize("name", ABRUPT)
def test_abrupt_operators_give_the_same_bits(name):
    operator, widgets, update, settings = ABRUPT[name]
    made = call(operator, **widgets)[0]
    assert not made.smooth
    assert torch.equal(*together_and_alone(made, call(update, **settings)[0]))


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_ones_are_as_near_as_libraries_let_them(name):
    operator, widgets, update, settings = SMOOTH[name]
    made = call(operator, **widgets)[0]
    assert made.smooth
    together, alone = together_and_alone(made, call(update, **settings)[0])
    assert (together - alone).abs().max() < NEAR


def test_each_sample_keeps_its_own_mask():
    generator = torch.Generator().manual_seed(0)
    masks = (torch.rand(3, 1, 32, 48, generator=generator) > 0.5).float()
    jpeg = call("UndegradeJPEG")[0]
    chain = Compose((Inpainting(masks), jpeg))
    x = per_sample_noise(range(6))(torch.empty(6, 3, 32, 48)).clamp(-1, 1)
    assert not chain.smooth
    for b in range(6):
        alone = chain.of_sample(b, 6)
        assert torch.equal(alone.operators[0].seen, masks[b // 2][None])
        assert (alone(x[b : b + 1]) - chain(x)[b : b + 1]).abs().max() < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_the_last_bit_stays_the_last_bit(name):
    """Of every operator that says it is smooth: 1e-6 in x is at most 1e-4 in A(x)."""
    case = CASES[name]
    operator = case.make()
    if not operator.smooth:
        pytest.skip("restored one by one")
    x = per_sample_noise([1, 2, 3])(torch.empty(3, 3, *case.size)).mul(0.4)
    moved = x + 1e-6 * per_sample_noise([4, 5, 6])(x).sign()
    assert (operator(moved) - operator(x)).abs().max() < 1e-4


@pytest.mark.parametrize("size", [(40, 48), (37, 31), (8, 9), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_of_any_size_and_kind_is_measured(size, channels):
    """Operators of which not every size is a measurement's, above all."""
    for node_id in ("UndegradePhaseRetrieval", "UndegradeJPEG", "UndegradeHDRClip"):
        operator = call(node_id)[0]
        image, m = call(
            "UndegradeDegradeImage", image=photo(*size, channels=channels), operator=operator
        )
        assert image.shape[-1] == channels and m.image_size == size
