"""The conjugate gradient and the switch against numbers of the official code."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from undegrade.models.noise_table import vp_sigmas
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.subdaps.sampler import level_operator
from undegrade.pipelines.subdaps.switch import FixedThreshold, Updated
from undegrade.pipelines.updates.conjugate_gradient import (
    ConjugateGradient,
)
from undegrade.pipelines.updates.update import Surroundings

GOLDEN = Path(__file__).parent / "golden"
WHOLE = [("inpainting", 20), ("inpainting", 50), ("super_resolution", 20)]
WHOLE += [("super_resolution", 50), *(("motion_deblur", i) for i in (20, 50, 80))]


def golden(case: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(GOLDEN / f"subdaps_{case}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def prediction(saved: dict[str, torch.Tensor], i: int) -> torch.Tensor:
    """x0_hat of step i; where most of it is clipped to -1 or 1 only the rest was saved."""
    if f"x0_hat.{i}" in saved:
        return saved[f"x0_hat.{i}"]
    x0_hat = saved[f"x0_hat.{i}.clipped"].float()
    x0_hat[x0_hat == 0] = saved[f"x0_hat.{i}.inside"]
    return x0_hat


def measured(case: str, saved: dict[str, torch.Tensor]) -> Measurement:
    if case == "super_resolution":
        return Measurement(saved["y"], Downscale(4), 0.05)
    if case == "motion_deblur":
        operator = KernelBlur(border="official", weights=saved["kernel"])
        return Measurement(saved["y"], operator, 0.05)
    mask = saved["mask"].bool()
    y = torch.full((1, 3, 256, 256), -1.0)  # what hidden pixels hold plays no part
    y[mask.expand_as(y)] = saved["y.seen"]
    return Measurement(y, Inpainting(mask.float()), 0.05)


def official_sigma(i: int, meta: dict[str, str]) -> float:
    return vp_sigmas(torch.float32)[json.loads(meta["t"])[i]].item()


@pytest.mark.parametrize(("case", "i"), WHOLE)
def test_official_conjugate_gradient_and_switch(case, i):
    saved, meta = golden(case)
    x0_hat, m, sigma = prediction(saved, i), measured(case, saved), official_sigma(i, meta)
    step, tau = json.loads(meta["steps"])[str(i)], float(meta["threshold"])
    assert 0.05**2 / sigma**2 == pytest.approx(step["rho"], rel=1e-5)
    operator = level_operator(m, (256, 256), 256 // x0_hat.shape[-1])
    at_level = Measurement(m.y, operator, 0.05)
    update = ConjugateGradient(10, tolerance=0.0, preconditioned=False)
    x0_y = update(x0_hat, sigma, at_level)
    corners = torch.cat([x0_y[..., :32, :32], x0_y[..., -32:, -32:]])
    assert (corners - saved[f"x0_y.{i}"]).abs().max() < 1e-5
    around = Surroundings(sigma, sigma, per_sample_noise([0]))
    decided = Updated(x0_hat, x0_y, sigma, at_level, update, around)
    assert decided.move.item() == pytest.approx(step["mse_move"], rel=2e-5)
    for threshold in (tau, 0.9999 * step["mse_move"], 1.0001 * step["mse_move"]):
        assert FixedThreshold(threshold)(decided).item() == (step["mse_move"] < threshold)


def test_official_inpainting_at_full_resolution():
    saved, meta = golden("inpainting")
    m = measured("inpainting", saved)
    seen = Inpainting(saved["mask"][..., :64, :64].float())
    window = Measurement(m.y[..., :64, :64], seen, 0.05)  # a mask needs one step: a window will do
    update = ConjugateGradient(10, tolerance=0.0, preconditioned=False)
    x0_y = update(saved["x0_hat.80"], official_sigma(80, meta), window)
    assert (x0_y - saved["x0_y.80"]).abs().max() < 1e-5
