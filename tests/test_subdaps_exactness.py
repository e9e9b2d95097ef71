"""What a run samples, in closed form: Gaussian posteriors, DPS' step, the short ODE."""

from itertools import pairwise

import pytest
import torch

from undegrade.models.codec import Identity
from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.prediction import predict
from undegrade.pipelines.schedule import Schedule, karras
from undegrade.pipelines.step import Step
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin

MEAN, STD, NOISE = 0.2, 0.5, 0.1  # the Gaussian prior's, and the measurement's
SIZE, UNKNOWNS = (1, 6, 5), 30


def asymmetric_blur() -> KernelBlur:
    weights = torch.tensor([[0.0, 3.0, 1.0], [0.5, 4.0, 0.0], [0.0, 0.2, 2.0]])
    return KernelBlur(border="replicate", weights=weights)


def matrix() -> torch.Tensor:
    eye = torch.eye(UNKNOWNS, dtype=torch.float64).reshape(UNKNOWNS, *SIZE)
    return asymmetric_blur()(eye).flatten(1).T


def law_of_update(update, A, y, sigma, progress):
    """(B, b, Q) of x0_y = B x0_hat + b + N(0, Q), in closed form."""
    eye = torch.eye(UNKNOWNS, dtype=torch.float64)
    r2 = 1 / (1 / sigma**2 + (1 / update.prior_std**2 if update.prior_std else 0))
    P = A.T @ A / NOISE**2 + eye / r2
    cov = torch.linalg.inv(P)
    B, b = cov / r2, cov @ A.T @ y / NOISE**2
    if isinstance(update, ConjugateGradient):
        return B, b, cov * update.sample
    lr = update.learning_rate * (1 + progress * (update.final_ratio - 1))
    G = eye - lr * P
    powers = [torch.linalg.matrix_power(G, 2 * j) for j in range(update.iterations)]
    forgotten = torch.linalg.matrix_power(G, update.iterations)
    return B + forgotten @ (eye - B), b - forgotten @ b, 2 * lr * sum(powers)


def law_of_run(update, y, sigmas):
    """Mean and covariance of x0_y at step N - 2 and of the restored picture."""
    A, eye = matrix(), torch.eye(UNKNOWNS, dtype=torch.float64)
    mean, cov, laws = y, sigmas[0] ** 2 * eye, []  # of the state x
    for i, sigma in enumerate(sigmas[:-1]):
        k = STD**2 / (STD**2 + sigma**2)
        mean, cov = MEAN + k * (mean - MEAN), k**2 * cov  # of x0_hat
        if i < len(sigmas) - 2:
            B, b, Q = law_of_update(update, A, y, sigma, i / (len(sigmas) - 1))
            mean, cov = B @ mean + b, B @ cov @ B.T + Q  # of x0_y
        laws.append((mean, cov))
        cov = cov + sigmas[i + 1] ** 2 * eye
    return laws[-2:]


def posterior(y):
    """Mean and covariance of x0 given y."""
    A = matrix()
    cov = torch.linalg.inv(A.T @ A / NOISE**2 + torch.eye(UNKNOWNS, dtype=torch.float64) / STD**2)
    return cov @ (A.T @ y / NOISE**2 + MEAN / STD**2), cov


def gaussian_run(update, y, noise, steps=3, **options) -> list[Step]:
    prior = GaussianPrior(MEAN, STD)
    schedule = schedule_for(prior, SamplerOptions(steps=steps, sigma_max=50.0, sigma_min=0.02))
    m = Measurement(y, asymmetric_blur(), NOISE)
    return list(restore(prior, m, schedule, update, noise, **options))


UPDATES = {
    "draw": ConjugateGradient(60, 1e-5, prior_std=STD, sample=True),
    "maximum": ConjugateGradient(60, 1e-5, prior_std=STD),
    "langevin": Langevin(150, 3e-3, 0.5, "measured", STD),
}


def assert_law(samples: torch.Tensor, mean: torch.Tensor, cov: torch.Tensor) -> None:
    """samples: (N, d) of N(mean, cov), by their whitened mean and covariance."""
    n, d = samples.shape
    root = torch.linalg.cholesky(cov)
    white = torch.linalg.solve_triangular(root, (samples.double() - mean).T, upper=False)
    chi2 = n * white.mean(1).square().sum().item()
    assert abs(chi2 - d) < 5 * (2 * d) ** 0.5
    excess = (white @ white.T / n - torch.eye(d)).square().sum().item() / (d * (d + 1) / n)
    assert 0.7 < excess < 1.4  # expected 1, deviating by 2 / sqrt(d (d + 1)) = 0.07


@pytest.mark.parametrize("name", UPDATES)
def test_samples_follow_the_law_of_the_chain(draw, name):
    y, n = draw(1, *SIZE), 3000 if name == "langevin" else 1500
    generator = torch.Generator().manual_seed(5)  # one for all samples: many draws

    def noise(like):
        return torch.randn(like.shape, generator=generator)

    steps = gaussian_run(UPDATES[name], y.expand(n, *SIZE), noise)
    sigmas = [step.sigma for step in steps] + [0.0]
    before, final = law_of_run(UPDATES[name], y.flatten().double(), sigmas)
    assert_law(steps[-1].x0_y.flatten(1), *final)
    if name in ("draw", "langevin"):
        assert_law(steps[-2].x0_y.flatten(1), *before)
    if name == "draw":
        assert_law(steps[-2].x0_y.flatten(1), *posterior(y.flatten().double()))


def test_the_law_of_the_chain_is_the_posterior(draw):
    y = draw(*SIZE).flatten().double()
    mean, cov = posterior(y)
    sigmas = [*karras(3, 50.0, 0.02).tolist(), 0.0]
    for name, (mean_bound, cov_bound) in {
        "draw": (1e-4, 1e-4),
        "maximum": (1e-4, None),
        "langevin": (0.06, 0.05),
    }.items():
        got_mean, got_cov = law_of_run(UPDATES[name], y, sigmas)[0]
        assert (got_mean - mean).norm() <= mean_bound * mean.norm(), name
        if cov_bound:
            assert (got_cov - cov).norm() <= cov_bound * cov.norm(), name
    wrong = law_of_run(ConjugateGradient(), y, sigmas)[0][0]
    assert (wrong - mean).norm() > 0.1 * mean.norm()  # r = sigma trusts early x0_hat too little


def test_noise_free_maximum_ends_at_the_posterior_mean(draw):
    y = draw(2, *SIZE)
    update, noise = ConjugateGradient(100, 0.0, prior_std=STD), per_sample_noise([1, 2])
    steps = gaussian_run(update, y, noise, steps=8, renoise=0.0)
    for b in range(2):
        mean, _ = posterior(y[b].flatten().double())
        assert (steps[-2].x0_y[b].flatten() - mean).abs().max() < 1e-5


class Recorded:
    """A noise source that remembers what it gave."""

    def __init__(self, seeds: list[int]) -> None:
        self.draw, self.given = per_sample_noise(seeds), []

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        self.given.append(self.draw(like))
        return self.given[-1]


def test_the_papers_chain_step_by_step_from_the_same_noise(draw):
    y, noise = draw(2, *SIZE), Recorded([3, 4])
    steps = gaussian_run(ConjugateGradient(100, 0.0), y, noise, steps=7)
    A, eye = matrix(), torch.eye(UNKNOWNS, dtype=torch.float64)
    flat_y = y.double().flatten(1)
    x = flat_y + steps[0].sigma * noise.given[0].flatten(1)
    for i, step in enumerate(steps[:-1]):
        x0_hat = MEAN + STD**2 / (STD**2 + step.sigma**2) * (x - MEAN)
        rho = NOISE**2 / step.sigma**2
        right = (flat_y @ A + rho * x0_hat).T
        x0_y = torch.linalg.solve(A.T @ A + rho * eye, right).T
        assert (step.x0_hat.flatten(1) - x0_hat).abs().max() < 1e-5
        assert (step.x0_y.flatten(1) - x0_y).abs().max() < 2e-5 * (1 + x0_y.abs().max())
        x = x0_y + steps[i + 1].sigma * noise.given[i + 1].flatten(1)


class Warped:
    """A nonlinear denoiser whose Jacobian is not symmetric; counts its calls."""

    def __init__(self, **spec) -> None:
        self.spec, self.codec, self.calls = PriorSpec(**spec), Identity(), 0

    def denoise(self, x: torch.Tensor, sigma: torch.Tensor, factor: int = 1) -> torch.Tensor:
        self.calls += 1
        s = sigma[:, None, None, None]
        return torch.sin(x + 0.5 * x.roll(1, -1)) / (1 + s) + 0.1 * x.roll(1, -2) ** 2 / (1 + s**2)


def fixed(*sigmas: float, factors: tuple[int, ...] | None = None) -> Schedule:
    levels = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    return Schedule(levels, factors or (1,) * len(sigmas))


def test_likelihood_gradient_is_dps_in_the_papers_coordinates(draw):
    y, noise, prior, zeta = 0.3 * draw(2, 3, 6, 5), Recorded([1, 2]), Warped(), 0.7
    m = Measurement(y, asymmetric_blur(), 0.1)
    steps = list(restore(prior, m, fixed(0.9, 0.5), LikelihoodGradient(zeta), noise))
    abar_t, abar = 1 / (1 + 0.9**2), 1 / (1 + 0.5**2)  # of x_t and of x_{t-1}
    alpha_t = abar_t / abar
    beta_t = 1 - alpha_t
    for b in range(2):
        x_t = (abar_t**0.5 * steps[0].x[b : b + 1]).double().requires_grad_()
        x0_hat = prior.denoise(x_t / abar_t**0.5, torch.full((1,), 0.9).double())
        loss = torch.linalg.vector_norm(y[b : b + 1].double() - asymmetric_blur()(x0_hat))
        (gradient,) = torch.autograd.grad(loss, x_t)
        mean = abar**0.5 * beta_t / (1 - abar_t) * x0_hat
        mean = mean + alpha_t**0.5 * (1 - abar) / (1 - abar_t) * x_t
        std = (beta_t * (1 - abar) / (1 - abar_t)) ** 0.5
        expected = mean + std * noise.given[1][b] - zeta * gradient
        assert (gradient.abs().max() * zeta).item() > 0.05  # the test would miss nothing
        assert (abar**0.5 * steps[1].x[b] - expected[0]).abs().max() < 1e-5


@pytest.mark.parametrize("ode_steps", [1, 2, 5])
def test_short_ode_is_explicit_euler(draw, ode_steps):
    x, prior = 3 * draw(2, 3, 6, 5), GaussianPrior(MEAN, STD)
    state, levels = x.double(), karras(ode_steps, 3.0, 0.01).tolist()
    for high, low in pairwise(levels):
        k = STD**2 / (STD**2 + high**2)
        slope = (state - (MEAN + k * (state - MEAN))) / high  # dx / dsigma
        state = state + (low - high) * slope
    k = STD**2 / (STD**2 + levels[-1] ** 2)
    x0_hat, pullback = predict(prior, x, 3.0, 1, ode_steps, backward=False)
    assert pullback is None
    assert (x0_hat - (MEAN + k * (state - MEAN))).abs().max() < 1e-5
    counted = Warped()
    predict(counted, x, 3.0, 1, ode_steps, backward=False)
    assert counted.calls == ode_steps
    predict(counted, x, 0.01, 1, ode_steps, backward=False)  # no way to go
    assert counted.calls == ode_steps + 1


def test_a_long_ode_reaches_the_exact_flow_and_has_a_pullback(draw):
    x, u, prior = 3 * draw(1, 1, 6, 5), draw(1, 1, 6, 5), GaussianPrior(MEAN, STD)
    x0_hat, pullback = predict(prior, x, 3.0, 1, 400, backward=True)
    shrink = ((STD**2 + 0.01**2) / (STD**2 + 3.0**2)) ** 0.5
    assert (x0_hat - (MEAN + shrink * (x - MEAN))).abs().max() < 0.02
    assert (pullback(u) - shrink * u).abs().max() < 0.01


def test_a_prior_may_write_into_the_noise_level_that_it_is_told(draw):
    class Writing(GaussianPrior):
        def denoise(self, x, sigma, factor=1):
            x0_hat = super().denoise(x, sigma, factor)
            sigma.mul_(0.5)
            return x0_hat

    m, levels = Measurement(draw(2, 3, 6, 5), asymmetric_blur(), NOISE), (2.0, 1.0, 0.4, 0.0)
    sigmas, last = torch.tensor(levels, dtype=torch.float64), []
    schedule = Schedule(sigmas, (1, 1, 1))
    for prior in (GaussianPrior(), Writing()):
        *_, step = restore(prior, m, schedule, ConjugateGradient(), per_sample_noise([1, 2]))
        last.append(step.x0_hat)
    assert torch.equal(*last)
