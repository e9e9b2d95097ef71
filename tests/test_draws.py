"""Draws from the posterior: their law in closed form, and what the network is told of a state."""

from __future__ import annotations

import pytest
import torch
from dense_twins import asymmetric, dense
from node_calls import call, measured, small_prior

from undegrade.models.prior import (
    FREQUENCIES,
    ErrorCurve,
    GaussianPrior,
    MeasuredPrior,
    MultiResolutionPrior,
)
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.level import picture
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.canvas import pool
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.jpeg import JPEG
from undegrade.pipelines.prior_errors import LEVELS, errors
from undegrade.pipelines.schedule import Schedule, karras
from undegrade.pipelines.subdaps.draws import draw as draws
from undegrade.pipelines.subdaps.draws import paired_noise, refined
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.langevin import Langevin
from undegrade.pipelines.updates.spectral import Correlated, between, spectral_update

MEAN, STD, NOISE = 0.2, 0.5, 0.1  # the Gaussian prior's, and the measurement's
SHAPE, UNKNOWNS = (3, 2, 4), 24
EXACT = ConjugateGradient(solver="exact", prior_std=STD)


def exact_curve() -> ErrorCurve:
    """That of the Gaussian prior: sigma s / sqrt(sigma^2 + s^2) at every frequency."""
    levels = torch.logspace(-2.1, 2, 60, dtype=torch.float64).tolist()
    bands = 2 * len(FREQUENCIES)
    return ErrorCurve(
        {1: tuple((s, *[s * STD / (s**2 + STD**2) ** 0.5] * (1 + bands)) for s in levels)}
    )


def schedule(steps: int) -> Schedule:
    sigmas = karras(steps, 10.0, 0.02)
    return Schedule(torch.cat([sigmas, sigmas.new_zeros(1)]), (1,) * steps, sigmas)


class Units:
    """Of draw j the unit vectors of its own samples: with all of them a run tells its whole law."""

    def __init__(self, draws: int) -> None:
        self.asked, self.draws = 0, draws

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        n = torch.zeros(1 + self.draws * UNKNOWNS, UNKNOWNS)
        start = 1 + self.asked * UNKNOWNS
        n[start : start + UNKNOWNS] = torch.eye(UNKNOWNS)
        self.asked += 1
        return n.reshape(-1, *SHAPE)


@pytest.mark.parametrize("known", [False, True], ids=["one r", "spectrum"])
def test_their_law_is_the_posterior(draw, known):
    """A run is linear in its noise here, so that mean and covariance are exact, not sampled."""
    y, operator, steps = 0.4 * draw(1, 3, 1, 2), Downscale(2), 30
    prior = GaussianPrior(MEAN, STD)
    noise = Units(steps)
    with torch.inference_mode(), left():
        m = Measurement(y.expand(1 + steps * UNKNOWNS, 3, 1, 2), operator, NOISE)
        run = last_of(MeasuredPrior(prior, exact_curve()) if known else prior, m, steps, noise)
        a = dense(operator, SHAPE)
    answers = run.flatten(1).double()
    assert noise.asked == steps
    mean, response = answers[0], answers[1:] - answers[0]
    precision = a.T @ a / NOISE**2 + torch.eye(UNKNOWNS, dtype=torch.float64) / STD**2
    cov = torch.linalg.inv(precision)
    wanted = cov @ (a.T @ y.flatten().double() / NOISE**2 + MEAN / STD**2)
    assert (mean - wanted).norm() <= 0.02 * wanted.norm()
    assert (response.T @ response - cov).norm() <= 0.04 * cov.norm()


def test_a_state_holds_the_noise_that_the_network_is_told():
    """Of x = x0 + sigma n and a mean prediction |x - x0_hat|^2 = sigma^2 - |x0_hat - x0|^2."""
    from skimage import data

    cat = torch.from_numpy(data.chelsea()[100:164, 120:184].copy()).permute(2, 0, 1)[None]
    x0 = cat.repeat(2, 1, 1, 1).float() / 127.5 - 1
    prior = MultiResolutionPrior(load_pixel_prior(BUILT_IN))
    plan = schedule_for(prior, SamplerOptions(steps=18))
    with torch.inference_mode(), left():
        m = simulate(x0, Downscale(4), 0.05, per_sample_noise([5, 6]))
        for step in draws(prior, m, plan, ConjugateGradient(), per_sample_noise([0, 1])):
            left_over = float((step.x - step.x0_hat).square().mean())
            error = prior.spec.errors.rms(step.sigma, step.factor)
            held = (left_over + error**2) ** 0.5 / step.sigma
            assert held == pytest.approx(1, abs=0.06 if step.sigma > 0.03 else 0.2), step.sigma


def test_answers_come_in_pairs_and_alone_as_in_a_batch(draw):
    like = torch.zeros(5, 3, 4, 4)
    n = paired_noise([2, 3, 4, 5, 7])(like)
    assert torch.equal(n[0], -n[1]) and torch.equal(n[2], -n[3])
    assert abs(float((n[0] * n[2]).mean())) < 0.5 and n.std() == pytest.approx(1, abs=0.1)
    for b, seed in enumerate([2, 3, 4, 5, 7]):
        assert torch.equal(paired_noise([seed])(like[:1])[0], n[b])


def test_a_finer_state_has_the_coarse_one_as_its_averages():
    coarse = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    fine = refined(coarse, 4, 0.7, per_sample_noise([3]))
    assert torch.allclose(pool(fine, 4), coarse, atol=1e-6)
    detail = fine - coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert float(detail.square().mean()) == pytest.approx(0.49 * 15 / 16, rel=0.05)


def test_the_spectral_update_is_the_dense_minimum(draw):
    x0_hat, spectrum = draw(2, *SHAPE), (
        tuple(0.5 / (1 + j) for j in range(9)), tuple(0.2 / (1 + j) for j in range(9)))
    operator = asymmetric("reflect")
    with torch.inference_mode(), left():
        m = Measurement(draw(2, *SHAPE), operator, 0.3)
        got = spectral_update(x0_hat, spectrum, m)
        luminance, chroma = (between(errors, x0_hat) for errors in spectrum)
        s = dense(Doubled(Correlated(torch.stack([luminance, chroma, chroma]))), SHAPE)
        a = dense(operator, SHAPE)
    assert torch.allclose(s, s.T, atol=1e-6) and torch.linalg.eigvalsh(s).min() > 0
    inverse = torch.linalg.inv(s @ s)
    right = (m.y.double().flatten(1) @ a / 0.09 + x0_hat.double().flatten(1) @ inverse).T
    wanted = torch.linalg.solve(a.T @ a / 0.09 + inverse, right).T
    assert (got.flatten(1) - wanted).abs().max() < 5e-3


class Doubled:
    """An operator in the precision that it has, called with float64."""

    def __init__(self, operator) -> None:
        self.operator = operator

    def __call__(self, x):
        return self.operator(x.float()).double()


def test_a_gaussian_priors_error_is_measured_as_it_is():
    x0 = (MEAN + STD * torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    *_, curve = errors(GaussianPrior(MEAN, STD), x0, (1, 2))
    assert [row[0] for row in curve.points[1]] == list(LEVELS)
    for sigma in (0.02, 0.2, 0.6, 5.0):
        for factor in (1, 2):
            std = STD / factor
            wanted = sigma * std / (sigma**2 + std**2) ** 0.5
            assert curve.rms(sigma, factor) == pytest.approx(wanted, rel=0.05)
            for part in curve.spectrum(sigma, factor):
                assert part[-3:] == pytest.approx([min(sigma, wanted)] * 3, rel=0.1)
    assert curve.rms(0.2, 4) == curve.rms(0.2, 2), "the nearest reduction's"
    assert ErrorCurve.read(curve.text()) == curve and ErrorCurve.read(None) is None


def test_a_curve_below_and_above_what_was_measured():
    curve = ErrorCurve({1: ((0.1, 0.05), (0.4, 0.1))})
    assert curve.rms(0.02) == pytest.approx(0.01) and curve.rms(9.0) == pytest.approx(0.1)
    assert curve.rms(0.2) == pytest.approx(0.05 * 2**0.5) and curve.spectrum(0.2) is None


@pytest.mark.parametrize("text", [
    "{", "[1]", "{}", '{"1": []}', '{"1": [[0.2, 0.1], [0.1, 0.1]]}', '{"1": [[0.1, 0]]}',
    '{"1": [[0.1, 0.1, 0.1]]}', '{"1": [["a", 1]]}',
])  # fmt: skip
def test_a_broken_curve_is_refused(text):
    with pytest.raises(ValueError, match=r"error_curve is broken.*measure the prior's error anew"):
        ErrorCurve.read(text)


def test_the_built_in_prior_knows_its_error():
    known = load_pixel_prior(BUILT_IN).spec.errors
    assert known.rms(0.5) == pytest.approx(0.1, abs=0.02)
    luminance, chroma = known.spectrum(0.5)
    assert luminance[0] > 5 * luminance[-1] and chroma[4] < 0.5 * luminance[4]


SMALL = {"sigma_max": 5.0, "steps": 4, "draws": True}


def test_the_node_draws_with_a_prior_that_was_measured():
    pictures = torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1))
    prior, report = call("UndegradeMeasurePriorError", prior=small_prior(), image=pictures)
    assert prior.spec.errors and report.startswith("1/1: ")
    again, _ = call("UndegradeMeasurePriorError", prior=small_prior(), image=pictures)
    assert again.spec.errors is prior.spec.errors, "from memory"
    m = measured()[1]
    node = "UndegradePosteriorSampler"
    two = call(node, prior=prior, measurement=m, samples=2, **SMALL)[0]
    one = call(node, prior=prior, measurement=m, seed=1, **SMALL)[0]
    assert torch.allclose(two[1:], one, atol=1e-6) and not torch.allclose(two[:1], one, atol=0.01)
    less = call(node, prior=prior, measurement=m, renoise=0.3, complementary=False, **SMALL)[0]
    assert torch.allclose(less, two[:1], atol=1e-6), "they do not count"


def test_draws_that_cannot_be_are_refused():
    m, node = measured()[1], "UndegradePosteriorSampler"
    known = MeasuredPrior(small_prior(), exact_curve())
    switch = call("UndegradeDeterministicSwitch")[0]
    for words, given in {
        r"is not known.*Measure Prior Error": {"prior": small_prior()},
        "disconnect the switch": {"prior": known, "switch": switch},
        "renoise above 0": {"prior": known, "renoise": 0.0},
        "ode_steps to 1": {"prior": known, "ode_steps": 2},
        "'sample' off, and a Langevin came": {"prior": known, "update": Langevin()},
    }.items():
        with pytest.raises(ValueError, match=words):
            call(node, measurement=m, **{**SMALL, **given})


def test_jpeg_is_drawn_picture_by_picture():
    prior, jpeg = MeasuredPrior(small_prior(), exact_curve()), JPEG(quality=30)
    image = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(1))
    m = call("UndegradeDegradeImage", image=image, operator=jpeg)[1]
    node = "UndegradePosteriorSampler"
    two = call(node, prior=prior, measurement=m, samples=2, **SMALL)[0]
    assert torch.equal(two[1:], call(node, prior=prior, measurement=m, seed=1, **SMALL)[0])


def last_of(prior, m, steps, noise) -> torch.Tensor:
    *_, last = draws(prior, m, schedule(steps), EXACT, noise)
    return picture(last.x0_hat, last.size)


def test_a_local_draw_is_believed_as_far_as_the_prior_was_measured(draw):
    asked = []

    class Asked(ConjugateGradient):
        def __call__(self, x0_hat, sigma, measurement, around=None):
            asked.append(sigma)
            return super().__call__(x0_hat, sigma, measurement, around)

    curve = ErrorCurve({1: ((0.1, 0.02), (10.0, 0.3)), 2: ((0.1, 0.09), (10.0, 0.9))})
    m = Measurement(draw(1, 3, 4, 4), Downscale(2), 0.1)
    plan = Schedule(torch.tensor([2.0, 0.5, 0.1, 0.05, 0.0]), (2, 1, 1, 1))
    for prior in (GaussianPrior(), MeasuredPrior(GaussianPrior(), curve)):
        for sample in (True, False):
            list(restore(prior, m, plan, Asked(sample=sample), per_sample_noise([1])))
    plain, measured_ = [2.0, 0.5, 0.1], [2 * curve.rms(2.0, 2), 2 * curve.rms(0.5), 0.04]
    assert asked == pytest.approx([*plain, *plain, *measured_, *plain])
