"""The schedules with noise levels of their own: what they cost, what they do, what they refuse."""

import itertools
from dataclasses import replace

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from latent_codecs import Mixing, latent_prior
from test_corrector import step

from undegrade.models.prior import ErrorCurve, GaussianPrior, MeasuredPrior, PriorSpec
from undegrade.models.registry import BUILT_IN, load_pixel_prior
from undegrade.nodes.posterior.sampler import PosteriorSampler
from undegrade.pipelines.measurement import Measurement, simulate
from undegrade.pipelines.metrics import psnr
from undegrade.pipelines.noise import per_sample_noise
from undegrade.pipelines.operators.downscale import Downscale
from undegrade.pipelines.operators.inpainting import Inpainting
from undegrade.pipelines.schedule import Schedule
from undegrade.pipelines.subdaps.belief import Spread, believed
from undegrade.pipelines.subdaps.corrector import Corrector
from undegrade.pipelines.subdaps.options import MASKED, TUNED, SamplerOptions, schedule_for
from undegrade.pipelines.subdaps.sampler import restore
from undegrade.pipelines.updates.conjugate_gradient import ConjugateGradient
from undegrade.pipelines.updates.update import Surroundings

CURVE = ErrorCurve({1: ((0.01, 0.005), (0.1, 0.02), (10.0, 0.2))})


def pixels(schedule: Schedule) -> float:
    """What the network sees, in pictures of full size."""
    return sum(1 / f**2 for f in schedule.factors)


@pytest.mark.parametrize("name", list(TUNED))
def test_levels_overlap_and_the_noise_of_pixels_falls(name):
    schedule = schedule_for(GaussianPrior(), SamplerOptions(schedule=name, steps=7))
    assert set(schedule.factors) == {4, 2, 1} and schedule.steps == sum(p[-1] for p in TUNED[name])
    for factor, first, last, _ in TUNED[name]:
        own = [s for s, f in zip(schedule.sigmas.tolist(), schedule.factors, strict=False)
               if f == factor]  # fmt: skip
        assert (own[0], own[-1]) == pytest.approx((first, last))
        ratios = [b / a for a, b in itertools.pairwise(own)]
        assert max(ratios) == pytest.approx(min(ratios))
    assert (schedule.sigmas.diff() > 0).any(), "more noise again at the next resolution"
    own = schedule_for(GaussianPrior(spec=PriorSpec(sigma_max=3.0)), SamplerOptions(schedule=name))
    assert own.sigmas.max() == 3.0


def test_a_quarter_of_the_default():
    several = load_pixel_prior(BUILT_IN)
    default = Schedule(torch.linspace(1, 0, 51).double(), (4,) * 17 + (2,) * 17 + (1,) * 16)
    fast, tuned = (schedule_for(several, SamplerOptions(schedule=n)) for n in ("fast", "tuned"))
    assert pixels(fast) <= pixels(default) / 4 and pixels(tuned) < pixels(default)


def test_levels_of_a_discrete_prior_are_its_own():
    known = torch.tensor([0.02, 0.1, 0.3, 0.9, 3.0, 12.0])
    spec = PriorSpec(sigma_min=0.02, sigma_max=12.0, sigmas=known)
    schedule = schedule_for(GaussianPrior(spec=spec), SamplerOptions(schedule="fast"))
    assert set(schedule.sigmas[:-1].tolist()) <= set(known.double().tolist())


class Asked(ConjugateGradient):
    """Remembers r and what it gave."""

    def __call__(self, x0_hat, r, measurement, around=None):
        found = super().__call__(x0_hat, r, measurement, around)
        self.__dict__.setdefault("seen", []).append((r, found))
        return found


def run(prior, tuned, draw):
    m, update = Measurement(draw(2, 3, 4, 4), Downscale(4), 0.05), Asked()
    schedule = Schedule(torch.tensor([2.0, 0.5, 0.8, 0.1, 0.0]), (2, 2, 1, 1))
    given = []

    def noise(like):
        given.append(per_sample_noise([1, 2])(like))
        return given[-1]

    steps = list(restore(prior, m, schedule, update, noise, renoise=0.7, tuned=tuned))
    return steps, update.seen, given


@pytest.mark.parametrize(("prior", "r"), [
    (MeasuredPrior(GaussianPrior(), CURVE), 0.02), (GaussianPrior(), 0.1),
])  # fmt: skip
def test_a_tuned_run_grows_smoothly_and_ends_at_the_measurement(draw, prior, r):
    steps, asked, given = run(prior, True, draw)
    fine = F.interpolate(steps[1].x0_y, scale_factor=2, mode="bicubic")
    assert torch.equal(steps[2].x, fine + 0.7 * 0.8 * given[2])
    assert len(asked) == 4 and asked[-1][0] == pytest.approx(r)
    assert torch.equal(steps[-1].x0_hat, asked[-1][1])
    plain, asked, _ = run(prior, False, draw)
    assert len(asked) == 3 and not torch.equal(plain[2].x, steps[2].x)


def test_masks_spread_what_they_show(draw):
    prior = load_pixel_prior(BUILT_IN)
    shown = Inpainting(torch.zeros(1, 1, 64, 64).index_fill(3, torch.arange(0, 64, 4), 1.0))
    m, x0_hat = Measurement(draw(1, 3, 64, 64), shown, 0.05), torch.zeros(1, 3, 64, 64)
    options = SamplerOptions(schedule="fast")
    assert schedule_for(prior, options, m).steps == sum(p[-1] for p in MASKED["fast"])
    for other in (replace(m, operator=Downscale(2)), replace(m, noise_level=0.2), None):
        assert schedule_for(prior, options, other).steps == sum(p[-1] for p in TUNED["fast"])
    assert schedule_for(GaussianPrior(), options, m).steps == sum(p[-1] for p in TUNED["fast"])
    steps = list(restore(prior, m, schedule_for(prior, options, m), ConjugateGradient(),
                         per_sample_noise([1]), tuned=True))
    around = Surroundings(0.1, 0.05, per_sample_noise([1]))
    moved = Spread(prior)(x0_hat, 0.2, m, around).abs().mean((0, 1, 2))
    alone = ConjugateGradient()(x0_hat, 0.2, m, around).abs().mean((0, 1, 2))
    assert (alone[1:4] == 0).all() and (moved[1:4] > 0.01).all()
    last = steps[-2]
    spread = Spread(prior)(last.x0_hat, 0.0, m, Surroundings(last.sigma, 0.0, around.noise))
    assert torch.equal(last.x0_y, spread)


def test_the_corrector_starts_anew_where_noise_rises():
    corrector = Corrector()
    for sigma in (2.0, 0.5, 0.8):
        last = step(sigma=sigma, x=torch.full((1, 1, 2, 2), sigma), x0_y=torch.ones(1, 1, 2, 2))
        corrector.add(last)
    assert torch.equal(corrector.x_c, last.x)


def test_plug_and_play_believes_what_was_measured():
    prior, update = MeasuredPrior(GaussianPrior(), CURVE), ConjugateGradient()
    r = [believed(prior, update, 0.1, 1, SamplerOptions(renoise=n).belief) for n in (0.0, 0.5)]
    assert r == pytest.approx([2 * 0.02, 0.1])


def test_fast_is_half_a_decibel_behind_at_most():
    prior, photo = load_pixel_prior(BUILT_IN), torch.from_numpy(skimage.data.coffee())
    truth = photo[100:164, 200:264].permute(2, 0, 1)[None] / 127.5 - 1
    m = simulate(truth, Downscale(4), 0.05, per_sample_noise([1]))
    node, found = PosteriorSampler(), {}
    for name, steps in (("fast", 1), ("by steps", 50)):
        image, _ = node.sample(prior, m, 0, 1, False, schedule=name, steps=steps)["result"]
        found[name] = float(psnr(2 * image.movedim(-1, 1) - 1, truth))
    assert found["fast"] > found["by steps"] - 0.5


def test_what_is_refused(draw):
    with pytest.raises(ValueError, match=r"schedule is 'quick'; choose one of by steps, tuned"):
        SamplerOptions(schedule="quick")
    with pytest.raises(ValueError, match=r"works on latents, and the schedule 'fast' was measured"):
        schedule_for(latent_prior(Mixing()), SamplerOptions(schedule="fast"))
    m = Measurement(draw(1, 3, 4, 4), Downscale(4), 0.05)
    prior = MeasuredPrior(GaussianPrior(), CURVE)
    with pytest.raises(ValueError, match=r"schedule to 'by steps', or turn draws off"):
        PosteriorSampler().sample(prior, m, 0, 1, False, schedule="fast", draws=True)
