"""The sampler: every state by its formula, any size, one sample in a batch, how it ends."""

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F

from undegrade.models.codec import Identity
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.comfyui.wall import left
from undegrade.pipelines.level import level_operator, picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.blur import KernelBlur
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.schedule import Schedule, karras, spread_factors
from undegrade.pipelines.step import Step
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.subdaps.switch import FixedThreshold
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin


def asymmetric_blur() -> KernelBlur:
    weights = torch.tensor([[0.0, 3.0, 1.0], [0.5, 4.0, 0.0], [0.0, 0.2, 2.0]])
    return KernelBlur(border="replicate", weights=weights)


class Recorded:
    """A noise source that remembers what it gave."""

    def __init__(self, seeds: list[int]) -> None:
        self.draw, self.given = per_sample_noise(seeds), []

    def __call__(self, like: torch.Tensor) -> torch.Tensor:
        self.given.append(self.draw(like))
        return self.given[-1]


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


def blocks(x: torch.Tensor, factor: int) -> torch.Tensor:
    return x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)


def test_every_state_follows_the_formula(draw):
    """Start, re-noising, growing and the deterministic step, from the noise that was given."""
    y, noise, renoise = draw(2, 3, 10, 6), Recorded([1, 2]), 0.6
    asked = []

    def in_turns(updated):
        asked.append(updated.r)
        return torch.tensor([len(asked) == 1, len(asked) == 2])

    sigmas, factors = (9.0, 4.0, 2.0, 1.0, 0.5, 0.1), (4, 4, 2, 1, 1, 1)
    m = Measurement(y, Inpainting(torch.ones(1, 1, 10, 6)), 0.1)
    run = restore(
        GaussianPrior(),
        m,
        fixed(*sigmas, factors=factors),
        ConjugateGradient(),
        noise,
        switch=in_turns,
        renoise=renoise,
    )
    steps, n = list(run), noise.given
    assert asked == [1.0, 0.5]  # at full resolution, and not at the last step
    canvas = torch.cat([y, y[:, :, 8:].flip(2)], 2)  # rows 10, 11 mirror rows 9, 8
    canvas = torch.cat([canvas, canvas[..., 4:].flip(3)], 3)  # columns 6, 7 mirror 5, 4
    expected = [F.avg_pool2d(canvas, 4) + renoise * 9 * n[0]]
    z = [step.x0_y for step in steps]
    expected.append(z[0] + renoise * 4 * n[1])
    expected.append(blocks(z[1], 2) + renoise * 2 * n[2])
    expected.append(blocks(z[2], 2) + renoise * 1 * n[3])
    for i, (sigma, following) in {3: (1.0, 0.5), 4: (0.5, 0.1)}.items():
        kept = z[i] + following / sigma * (steps[i].x - z[i])
        drawn = z[i] + renoise * following * n[i + 1]
        expected.append(torch.stack([kept[0], drawn[1]] if i == 3 else [drawn[0], kept[1]]))
    for i, step in enumerate(steps):
        assert torch.allclose(step.x, expected[i], atol=1e-5), i
        assert (step.index, step.total, step.sigma, step.factor) == (i, 6, sigmas[i], factors[i])
        assert step.deterministic.tolist() == [i == 3, i == 4]  # and not for good
        assert step.size == (10, 6)
    assert torch.equal(steps[-1].x0_y, steps[-1].x0_hat) and len(n) == 6


def test_the_levels_operator_enlarges_crops_and_degrades(draw):
    blur, z = asymmetric_blur(), draw(2, 3, 20, 16)
    m = Measurement(draw(2, 3, 37, 31), blur, 0.1)
    expected = blur(blocks(z, 2)[..., :37, :31])
    assert torch.allclose(level_operator(m, (40, 32), 2)(z), expected, atol=1e-6)
    assert level_operator(m, (37, 31), 1) is blur


SIZES = [(37, 31), (1, 1), (1, 7), (64, 48)]
LEVELS = [(1,), (2, 1), (4, 2, 1), (8, 4, 2, 1)]


def mask_for(height: int, width: int) -> Inpainting:
    seen = torch.rand(3, 1, height, width, generator=torch.Generator().manual_seed(2)) < 0.6
    seen[..., 0, 0] = True
    return Inpainting(seen.float())


def run_samples(y, operator, samples, levels, steps, prior=None, **options) -> list[Step]:
    seeds = [11 + b for b in samples]
    own = Inpainting(operator.seen[samples]) if isinstance(operator, Inpainting) else operator
    points = tuple((k + 1) / len(levels) for k in range(len(levels) - 1))
    prior = MultiResolutionPrior(prior or GaussianPrior(), levels, points)
    schedule = schedule_for(prior, SamplerOptions(steps=steps))
    assert schedule.factors == spread_factors(steps, levels, points)
    m = Measurement(y[samples], own, 0.1)
    update = options.pop("update", ConjugateGradient())
    return list(restore(prior, m, schedule, update, per_sample_noise(seeds), **options))


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_a_sample_alone_in_a_batch_and_in_another_order(draw, size, levels):
    y, operator, options = draw(3, 3, *size), mask_for(*size), {"switch": FixedThreshold(1e-3)}
    for count in range(1, 6):
        steps = run_samples(y, operator, [0, 1, 2], levels, count, **options)
        assert len(steps) == count
        assert picture(steps[-1].x0_y, steps[-1].size).shape == y.shape
        assert torch.isfinite(steps[-1].x0_y).all()
    turned = run_samples(y, operator, [2, 0, 1], levels, 5, **options)
    for b in range(3):
        alone = run_samples(y, operator, [b], levels, 5, **options)
        for i in range(5):
            assert torch.equal(alone[i].x0_y[0], steps[i].x0_y[b])
            assert torch.equal(turned[i].x0_y[(b + 1) % 3], steps[i].x0_y[b])
            assert alone[i].deterministic[0] == steps[i].deterministic[b]


def test_samples_switch_by_themselves(draw):
    y = draw(3, 3, 37, 31)
    y[1] *= 10  # far from the prior, so that the measurement moves every prediction
    steps = run_samples(y, mask_for(37, 31), [0, 1, 2], (1,), 12, switch=FixedThreshold(1e-2))
    flags = torch.stack([step.deterministic for step in steps])
    assert flags[9].tolist() == [True, False, True] and not flags[-1].any()


@pytest.fixture(scope="module")
def built_in():
    return load_pixel_prior(BUILT_IN)


def test_the_built_in_prior_restores_a_sample_alone_and_in_a_batch(draw, built_in):
    y, options = draw(3, 3, 37, 31).clamp(-1, 1), {"prior": built_in}
    steps = run_samples(y, mask_for(37, 31), [0, 1, 2], (2, 1), 5, **options)
    assert picture(steps[-1].x0_y, (37, 31)).shape == y.shape
    assert steps[-1].x0_y.shape[-2:] == (64, 32)
    for b in range(3):
        alone = run_samples(y, mask_for(37, 31), [b], (2, 1), 5, **options)
        assert (alone[-1].x0_y[0] - steps[-1].x0_y[b]).abs().max() < 1e-5


@pytest.mark.parametrize("update", [ConjugateGradient(), LikelihoodGradient(0.3), Langevin(3)])
def test_comfyuis_mode_changes_nothing_and_inputs_stay(draw, built_in, update):
    y, operator = draw(3, 3, 18, 14).clamp(-1, 1), Downscale(2)
    before = y.clone()

    def last() -> torch.Tensor:
        options = {"prior": built_in, "update": update}
        return run_samples(y, operator, [0, 1, 2], (2, 1), 4, **options)[-1].x0_y

    plain = last()
    with torch.inference_mode(), left():
        assert (last() - plain).abs().max() < 1e-5
    assert torch.equal(y, before) and not plain.requires_grad
    assert torch.isfinite(plain).all()


def test_no_input_and_no_yielded_state_is_written_to(draw):
    m, prior = Measurement(draw(3, 3, 37, 31), mask_for(37, 31), 0.1), GaussianPrior()
    schedule, tensors = fixed(5.0, 2.0, 0.5, factors=(4, 2, 1)), [m.y, m.operator.seen]
    tensors.append(schedule.sigmas)
    copies = [t.clone() for t in tensors]
    for step in restore(prior, m, schedule, ConjugateGradient(), per_sample_noise([1, 2, 3])):
        tensors += [step.x, step.x0_hat, step.x0_y]
        copies += [t.clone() for t in tensors[-3:]]
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))


def test_plug_and_play_has_no_noise(draw):
    m = Measurement(draw(3, 3, 37, 31), mask_for(37, 31), 0.1)

    def last(seed: int, renoise: float) -> torch.Tensor:
        noise, schedule = per_sample_noise([seed] * 3), fixed(0.6, 0.3, 0.1)
        run = restore(GaussianPrior(), m, schedule, ConjugateGradient(), noise, renoise=renoise)
        return list(run)[-1].x0_y

    assert torch.equal(last(1, 0.0), last(2, 0.0))
    assert not torch.equal(last(1, 0.5), last(2, 0.5))


def endless(prior, draw) -> Iterator[Step]:
    m = Measurement(draw(1, 3, 6, 5), asymmetric_blur(), 0.1)
    schedule = fixed(*karras(1000, 10.0, 0.01).tolist())
    return restore(prior, m, schedule, ConjugateGradient(), per_sample_noise([1]))


def test_a_run_stops_when_its_caller_does(draw):
    prior = Warped()
    run = endless(prior, draw)
    assert [next(run).index for _ in range(3)] == [0, 1, 2]
    run.close()
    assert prior.calls == 3 and list(run) == []


def test_a_prior_that_is_not_finite_is_named(draw):
    class Broken(Warped):
        def denoise(self, x, sigma, factor=1):
            x0_hat = super().denoise(x, sigma, factor)
            x0_hat[0, 1, 2, 3] = float("nan") if self.calls == 3 else 0.0
            return x0_hat

    run = endless(Broken(), draw)
    said = r"NaN or infinite values at noise level 9\.912; choose float32"
    with pytest.raises(FloatingPointError, match=said):
        list(run)


def test_wrong_number_of_seeds(draw):
    m = Measurement(draw(2, 3, 6, 5), asymmetric_blur(), 0.1)
    run = restore(GaussianPrior(), m, fixed(1.0), ConjugateGradient(), per_sample_noise([1]))
    with pytest.raises(ValueError, match="samples and seeds are 2 and 1"):
        next(run)
