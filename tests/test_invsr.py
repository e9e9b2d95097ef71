"""InvSR's sampler: the official numbers and closed forms."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from start_noises import ClosedForm, levels, result, run

from undegrade.models.noise_table import stable_diffusion_sigmas
from undegrade.models.prior import GaussianPrior, PriorSpec
from undegrade.pipelines.invsr.sampler import Start, bicubic, invert, schedule_at, schedule_from
from undegrade.pipelines.noise import per_sample_noise

GOLDEN = Path(__file__).parent / "golden" / "invsr_sampling.safetensors"


# The official code


class Recorded:
    """A prior that gives the recorded network outputs, and checks what the network is given."""

    def __init__(self, tensors, count):
        self.spec, self.seen, self.tensors, self.count = PriorSpec(4), 0, tensors, count
        self.codec = self

    def encode(self, image):
        start = self.tensors["start_latents"]
        return start - self.tensors["sigmas"][0] * self.tensors["pred_noise"]

    def denoise(self, x, sigma, factor=1):
        scaled = x / (sigma**2 + 1).sqrt()[:, None, None, None]
        near(scaled, self.tensors[f"unet_in.{self.seen}"], 2e-6)
        x0_hat = x - sigma[:, None, None, None] * self.tensors[f"unet_out.{self.seen}"]
        self.seen += 1
        return x0_hat


def near(ours, official, relative):
    assert (ours - official).abs().max() <= relative * official.abs().max()


@pytest.mark.parametrize("steps", [1, 3, 5])
def test_the_update_is_the_official_one(steps):
    with safe_open(GOLDEN, "pt") as file:
        times = json.loads(file.metadata()["timesteps"])[str(steps)]
        prefix = f"{steps}."
        tensors = {k.removeprefix(prefix): file.get_tensor(k) for k in file.keys()  # noqa: SIM118
                   if k.startswith(prefix)}
    schedule = schedule_at(times, stable_diffusion_sigmas())
    near(schedule.sigmas, tensors["sigmas"].double(), 2e-5)  # theirs is a float32 table
    schedule = schedule_from(tensors["sigmas"])
    noise, prior = tensors["pred_noise"], Recorded(tensors, steps)
    start = Start(torch.zeros(1, 3, 16, 16), noise, torch.ones_like(noise), 4, (64, 64))
    states = list(invert(prior, start, schedule, per_sample_noise([0]), strength=0.0))
    assert len(states) == prior.seen == steps
    near(states[0].x, tensors["start_latents"], 2e-6)
    for i, step in enumerate(states[1:]):
        near(step.x, tensors[f"latents.{i}"], 2e-6)
    near(states[-1].x0_hat, tensors[f"latents.{steps - 1}"], 2e-6)


# Closed forms


def test_euler_on_a_gaussian_prior_is_the_closed_form(draw):
    """x' - m = (v + s s') / (v + s^2) (x - m) per step; the last s' is 0."""
    m, v = 0.1, 0.36
    prior = GaussianPrior(mean=m, std=math.sqrt(v))
    lr, predictor = 0.5 * draw(3, 3, 12, 9), ClosedForm(slope=0.3)
    sigmas = [0.7, 0.4, 0.15, 0.0]
    states = run(prior, predictor, lr, levels(*sigmas[:-1]), seeds=[5, 6, 7])
    mean, std = predictor.predict(lr, torch.full((3,), 0.7))
    eps = per_sample_noise([5, 6, 7])(mean)
    x = bicubic(lr, 4) + 0.7 * (mean + std * eps)
    for step, s, following in zip(states, sigmas, sigmas[1:], strict=False):
        assert (step.x - x).abs().max() < 2e-6 and step.sigma == pytest.approx(s)
        x = m + (v + s * following) / (v + s * s) * (x - m)
    assert (result(prior, states) - x).abs().max() < 2e-6
    assert [step.index for step in states] == [0, 1, 2] and states[0].total == 3


def test_many_euler_steps_reach_the_end_of_the_probability_flow(draw):
    """dx/ds = s (x - m) / (v + s^2), so x - m scales with sqrt(v + s^2)."""
    m, v, s = -0.2, 0.25, 0.7
    prior, lr = GaussianPrior(mean=m, std=0.5), 0.5 * draw(1, 3, 8, 8)
    grid = torch.linspace(s, 0, 2001, dtype=torch.float64)
    states = run(prior, ClosedForm(), lr, schedule_from(grid))
    expected = m + math.sqrt(v / (v + s * s)) * (states[0].x - m)
    assert (result(prior, states) - expected).abs().max() < 1e-3


def test_fresh_noise_is_new_at_every_later_step(draw):
    """x' = D(x) + s' eps', D(x) = m + v / (v + s^2) (x - m)."""
    m, v = 0.1, 0.25
    prior, lr = GaussianPrior(mean=m, std=0.5), 0.5 * draw(2, 3, 8, 8)
    states = run(prior, ClosedForm(), lr, levels(0.7, 0.4), seeds=[3, 4], deterministic=False)
    noise = per_sample_noise([3, 4])
    first, second = noise(states[0].x), noise(states[0].x)
    x = bicubic(lr, 4) + 0.7 * (0.2 + 0.5 * first)
    x = m + v / (v + 0.49) * (x - m) + 0.4 * second
    assert (states[1].x - x).abs().max() < 2e-6
    assert not states[0].deterministic.any()
    one = [run(prior, ClosedForm(), lr, levels(0.7), deterministic=d)[-1].x0_hat
           for d in (True, False)]
    assert torch.equal(*one)


@pytest.mark.parametrize("strength", [0.0, 0.5, 2.0])
def test_strength_scales_the_deviation_only(draw, strength):
    prior, lr = GaussianPrior(), 0.5 * draw(1, 3, 8, 8)
    states = run(prior, ClosedForm(), lr, levels(0.4), strength=strength)
    eps = per_sample_noise([0])(states[0].x)
    expected = bicubic(lr, 4) + 0.4 * (0.2 + strength * 0.5 * eps)
    assert (states[0].x - expected).abs().max() < 1e-6
