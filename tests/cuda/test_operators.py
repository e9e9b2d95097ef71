"""Every operator and every update on a card: the CPU's results, forwards and backwards."""

import math
from functools import cache

import pytest
import torch
from every_operator import OPERATORS, pictures

from undegrade.models.pixel import PixelNetwork, PixelPrior
from undegrade.models.prior import PriorSpec
from undegrade.nodes.comfyui.wall import repeatable
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import GaussianBlur
from undegrade.pipelines.operators.contract import Operator
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.spectral import Correlated
from undegrade.pipelines.updates.update import Surroundings

CLOSE = 1e-4  # of the largest value
every_operator = pytest.mark.parametrize("name", OPERATORS)
UPDATES = {
    "cg": ConjugateGradient(4),
    "cg, plain": ConjugateGradient(3, preconditioned=False, tolerance=0.0),
    "cg, sampled": ConjugateGradient(2, sample=True, prior_std=0.5),
    "langevin": Langevin(iterations=3),
    "gradient": LikelihoodGradient(),
}


def classes_of(cls):
    return {cls, *(c for below in cls.__subclasses__() for c in classes_of(below))}


def test_no_operator_is_left_out():
    """Of the pipelines' own; `Correlated` is made where the picture lies (`test_draws`)."""
    known = {type(make()) for make in OPERATORS.values()}
    mine = {c for c in classes_of(Operator) if ".pipelines." in c.__module__}
    assert {c for c in mine if not c.__abstractmethods__} == known | {Correlated}


@cache
def on(name, device):
    """The operator on a device, whose derivative is tried once for all of its tests."""
    operator = OPERATORS[name]()
    for network in operator.networks:
        network.to(device)
    return operator


def close(a, b):
    apart = (a - b.cpu()).abs().max().item()
    return apart < CLOSE * max(1.0, a.abs().max().item())


@every_operator
def test_an_operator_and_its_derivatives(name, card):
    x, v = pictures(12 if "decoder" in name else 3)
    results = []
    for device in ("cpu", card):
        operator = on(name, torch.device(device))
        y, pullback = operator.vjp(x.to(device))
        u = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(device)
        made = [y, operator(x.to(device)), pullback(u), operator.jvp(x.to(device), v.to(device))]
        made.append(operator.guess(operator.observe(y)))
        assert {t.device.type for t in made} == {torch.device(device).type}
        results.append(made)
    for a, b in zip(*results, strict=True):
        assert close(a, b)


def test_a_gaussian_is_reflected_no_further_than_on_the_cpu(card):
    operator, x = GaussianBlur("reflect", std=3.0), torch.zeros(1, 3, 12, 10, device=card)
    for use in (operator, operator.vjp):
        with pytest.raises(ValueError, match="radius 12 cannot reflect an image of 10x12 pixels"):
            use(x)


def updated(name, update, device):
    x, truth = pictures(12 if "decoder" in name else 3)
    operator = on(name, torch.device(device))
    y = operator(0.3 * truth.to(device))
    m = Measurement(y, operator, 0.05)
    around = Surroundings(0.4, 0.3, per_sample_noise([1, 2]), 0.5, lambda u: 0.7 * u)
    return UPDATES[update](x.to(device), 0.4, m, around)


@pytest.mark.parametrize(("name", "update"), [
    pytest.param(name, update, id=f"{update}-{name}") for name in OPERATORS for update in UPDATES
    if update != "cg, plain" or OPERATORS[name]().linear])  # others are never preconditioned
def test_an_update(name, update, card):
    """JPEG rounds: of two states that differ by 1e-6 one may lose a coefficient that the other
    keeps, after which conjugate gradients go different ways (rms .0016 on one and the same CPU)."""
    expected, result = (updated(name, update, device) for device in ("cpu", card))
    if name in ("JPEG", "composed, nonlinear") and update.startswith("cg"):
        assert (expected - result.cpu()).square().mean().sqrt() < 0.01
    else:
        assert close(expected, result)


@pytest.mark.cuda
@every_operator
@pytest.mark.parametrize("update", UPDATES)
def test_an_update_gives_the_same_bits_again(name, update, cuda):
    with repeatable():
        assert torch.equal(updated(name, update, cuda), updated(name, update, cuda))


SOLVED = ["mask", "downscale area", "gaussian replicate", "kernel circular"]


@pytest.mark.parametrize("name", SOLVED)
def test_the_closed_form(name, card):
    x, truth = pictures()
    results = []
    for device in ("cpu", card):
        operator = OPERATORS[name]()
        m = Measurement(operator(0.3 * truth.to(device)), operator, 0.05)
        results.append(ConjugateGradient(solver="exact")(x.to(device), 0.4, m))
    assert close(*results)


def test_a_network_forwards_and_backwards(card):
    x, u = pictures()
    generator = torch.Generator().manual_seed(5)
    network = PixelNetwork(widths=(8, 12), blocks=1)
    for parameter in network.parameters():
        parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter.requires_grad_(False)
    results = []
    for device in ("cpu", card):
        prior = PixelPrior(network.to(device), PriorSpec())
        sigma = torch.full((2,), 0.5, device=device)
        x0_hat, pullback = torch.func.vjp(lambda x, p=prior, s=sigma: p.denoise(x, s), x.to(device))
        results.append((x0_hat, pullback(u.to(device))[0]))
    for a, b in zip(*results, strict=True):
        assert close(a, b)


def test_stand_ins_are_nontrivial():
    """An operator that gave zeros would pass every comparison."""
    for name, make in OPERATORS.items():
        x, _ = pictures(12 if "decoder" in name else 3)
        y = make()(x)
        assert math.isfinite(y.std().item()) and y.std() > 0.01, name
