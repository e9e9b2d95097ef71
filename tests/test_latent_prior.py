"""Restoration with a latent prior: closed forms, every update, any size, and what nodes show."""

import pytest
import torch
from latent_codecs import NOISE, STD, Curved, Fused, Mixing, Warped, blur, fixed, latent_prior
from node_calls import call, measured, sampled

from undegrade.models.codec import Identity
from undegrade.models.prior import GaussianPrior, MultiResolutionPrior
from undegrade.nodes.comfyui import host
from undegrade.nodes.comfyui.wall import left
from undegrade.nodes.posterior import sampler
from undegrade.nodes.watched import WatchedPrior
from undegrade.pipelines.level import level_operator, picture
from undegrade.pipelines.measurement import Measurement
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.subdaps.corrector import Corrector
from undegrade.pipelines.subdaps.options import SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.gradient import LikelihoodGradient
from undegrade.pipelines.updates.langevin import Langevin

# The run


def test_a_linear_codec_that_keeps_lengths_changes_nothing(draw):
    """With an orthogonal codec the latent run is the pixel run with the noise turned alike."""
    codec, y = Mixing(), draw(2, 3, 8, 6)
    m, sigmas = Measurement(y, blur(), NOISE), (3.0, 1.0, 0.3)
    streams = [per_sample_noise([1, 2]), per_sample_noise([1, 2])]
    update = ConjugateGradient(80, 1e-6)
    latent = restore(latent_prior(codec), m, fixed(*sigmas), update, streams[0])
    turned = lambda like: codec.decode(streams[1](codec.encode(like)))  # noqa: E731
    pixels = restore(GaussianPrior(0.0, STD), m, fixed(*sigmas), update, turned)
    for a, b in zip(latent, pixels, strict=True):
        assert a.x.shape == (2, 12, 4, 3)
        assert torch.allclose(codec.decode(a.x), b.x, atol=2e-4)
        assert torch.allclose(codec.decode(a.x0_y), b.x0_y, atol=2e-4)


def test_samples_follow_the_gaussian_posterior_in_latent_space(draw):
    """x0_y drawn at the first step is a draw of N(mean, cov) of z given y, in closed form.

    Where the noise hides everything, x0_hat is the prior's mean and r its spread, so that the drawn
    x0_y has the law of z given y.
    """
    codec, n = Mixing(1.7), 1000
    y = draw(1, 3, 2, 2)
    eye = torch.eye(12, dtype=torch.float64).reshape(12, 12, 1, 1)
    A = blur()(codec.decode(eye)).flatten(1).T
    m = Measurement(y.expand(n, -1, -1, -1), blur(), NOISE)
    update = ConjugateGradient(20, 0.0, prior_std=STD, sample=True)
    generator = torch.Generator().manual_seed(5)
    noise = lambda like: torch.randn(like.shape, generator=generator)  # noqa: E731
    run = restore(latent_prior(codec), m, fixed(500.0, 0.02), update, noise)
    got = next(run).x0_y.flatten(1).double()
    cov = torch.linalg.inv(A.T @ A / NOISE**2 + torch.eye(12) / STD**2)
    mean = cov @ (A.T @ y.flatten().double()) / NOISE**2
    white = torch.linalg.solve_triangular(
        torch.linalg.cholesky(cov), (got - mean).T, upper=False
    )
    assert white.mean(1).abs().max() < 4.5 / n**0.5
    assert (white @ white.T / n - torch.eye(12)).abs().max() < 6 / n**0.5


@pytest.mark.parametrize("update", [ConjugateGradient(), LikelihoodGradient(0.3), Langevin(20)])
@pytest.mark.parametrize("codec", [Curved(), Fused()])
def test_updates_fit_the_measurement_through_any_decoder(draw, update, codec):
    truth = picture(0.5 * draw(3, 12, 8, 6), (13, 11), codec)
    m = Measurement(blur()(truth) + 0.05 * draw(3, 3, 13, 11), blur(), 0.05)
    before = m.y.clone()

    def run(samples=(0, 1, 2)):
        own = Measurement(m.y[list(samples)], m.operator, m.noise_level)
        noise = per_sample_noise([7 + b for b in samples])
        schedule = fixed(3.0, 1.0, 0.5, 0.2)
        return list(restore(Warped(codec), own, schedule, update, noise, renoise=0.5))

    steps = run()
    with torch.inference_mode(), left():
        quiet = run()
    for a, b in zip(steps, quiet, strict=True):
        assert (a.x0_y - b.x0_y).abs().max() < 1e-4
    through = level_operator(m, (16, 12), 1, codec)
    for step in steps[1:-1]:
        far, near = (mean_square(m.y - through(z)) for z in (step.x0_hat, step.x0_y))
        assert (near < far).all()
    alone = run([1])
    for a, b in zip(alone, steps, strict=True):
        assert torch.allclose(a.x0_y[0], b.x0_y[1], atol=1e-4)
    assert torch.equal(m.y, before) and not steps[-1].x0_y.requires_grad


def mean_square(v: torch.Tensor) -> torch.Tensor:
    return v.square().flatten(1).mean(1)


def test_the_first_state_is_the_encoded_guess(draw):
    codec, y, noise = Mixing(), draw(2, 3, 6, 8), per_sample_noise([1, 2])
    m, given = Measurement(y, blur(), NOISE), per_sample_noise([1, 2])
    run = restore(latent_prior(codec), m, fixed(0.3, 0.1), ConjugateGradient(), noise, renoise=0.5)
    z = codec.encode(y)
    assert torch.allclose(next(run).x, z + 0.15 * given(z), atol=1e-5)


def test_any_size_at_several_resolutions(draw):
    codec = Mixing()
    prior = MultiResolutionPrior(latent_prior(codec, multiple_of=2))
    for size in ((37, 31), (1, 1), (16, 48)):
        m = Measurement(draw(2, 3, *size), Inpainting(torch.ones(1, 1, *size)), NOISE)
        schedule = schedule_for(prior, SamplerOptions(steps=6))
        steps, corrector, given, draws = [], Corrector(), [], per_sample_noise([1, 2])
        noise = lambda like: given.append(draws(like)) or given[-1]  # noqa: E731, B023
        for step in restore(prior, m, schedule, ConjugateGradient(), noise):
            steps.append(step)
            corrector.add(step)
        sides = {s.factor: tuple(s.x.shape[-2:]) for s in steps}
        full = tuple(-(-side // 16) * 16 for side in size)  # 2 latents x 2 pixels x factor 4
        assert sides == {f: (full[0] // 2 // f, full[1] // 2 // f) for f in (4, 2, 1)}
        assert picture(steps[-1].x0_y, size, codec).shape == m.y.shape
        assert corrector.result(codec).shape == m.y.shape
        assert [step.factor for step in steps] == [4, 4, 4, 2, 2, 1]
        grown = codec.encode(doubled(codec.decode(steps[2].x0_y)))
        assert torch.allclose(steps[3].x, grown + steps[3].sigma * given[3], atol=1e-4)


def doubled(x: torch.Tensor) -> torch.Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def test_the_corrector_recombines_latents_and_decodes_once(draw):
    codec, x = Mixing(), draw(1, 12, 4, 4)
    m = Measurement(draw(1, 3, 8, 8), blur(), NOISE)
    corrector, steps = Corrector(), fixed(2.0, 0.5, 0.1)
    for step in restore(latent_prior(codec), m, steps, ConjugateGradient(), per_sample_noise([1])):
        corrector.add(step)
    codec.decoded = 0
    x = corrector.result(codec)
    assert codec.decoded == 1
    expected = codec.decode(corrector.x_c / (1 + 0.1**2) ** 0.5).clamp(-1, 1)
    assert torch.allclose(x, expected, atol=1e-6)


# The nodes


def test_the_nodes_carry_latents_and_decode_at_the_end():
    codec = Mixing()
    image, trajectory = sampled(measured()[1], prior=latent_prior(codec), keep_trajectory=True)
    assert image.shape == (1, 32, 48, 3)
    assert trajectory.steps[-1].x0_hat.shape == (1, 12, 16, 24)
    codec.decoded = 0
    frames = call("UndegradeTrajectoryPreview", trajectory=trajectory, frames=2)[0]
    assert codec.decoded == 2 and frames.shape == (2, 32, 48, 3)
    torch.testing.assert_close(frames[-1:], image)
    assert call("UndegradeTrajectoryCorrector", trajectory=trajectory)[0].shape == image.shape


def test_live_previews_decode_nothing(monkeypatch):
    codec, seen = Mixing(), []
    glimpse = sampler.glimpse

    def watched(step, codec):
        before = codec.decoded
        out = glimpse(step, codec)
        assert codec.decoded == before
        seen.append(out.shape)
        return out

    monkeypatch.setattr(sampler, "glimpse", watched)
    monkeypatch.setattr(host.Progress, "show", lambda self, picture: picture())  # all are sent
    sampled(measured()[1], prior=latent_prior(codec))
    assert seen == [(1, 3, 32, 48)] * 3


def test_cancel_stops_within_one_decoder_pass(monkeypatch):
    class StopError(Exception):
        """ComfyUI's interrupt is a plain Exception."""

    codec = Mixing()

    def interrupted():
        if codec.decoded == 5:
            raise StopError

    monkeypatch.setattr(host, "check_interrupted", interrupted)
    with pytest.raises(StopError):
        sampled(measured()[1], prior=latent_prior(codec))
    assert codec.decoded == 5
    watched = WatchedPrior(latent_prior(codec), host.Progress(1)).codec
    for ask in (watched.decode, watched.encode):
        with pytest.raises(StopError):
            ask(torch.ones(1, 12, 2, 2))
    assert codec.decoded == 5
    assert isinstance(WatchedPrior(GaussianPrior(), host.Progress(1)).codec, Identity)
