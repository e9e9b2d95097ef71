"""The numbers of a SubDAPS++ run (arXiv 2605.14267), and its noise levels."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

import torch
from torch import Tensor

from ...models.codec import Identity
from ...models.prior import Prior
from ..measurement import Measurement
from ..options import Options, option
from ..schedule import Schedule, karras, round_to, spread_factors
from .belief import spreads

PLUG_AND_PLAY = 0.5  # r / sigma where no noise is drawn and the prior's error is not known
BY_STEPS = "by steps"
Parts = dict[str, tuple[tuple[int, float, float, int], ...]]
TUNED: Parts = {  # schedule -> resolution, first and last noise level, number of levels
    "tuned": ((4, 10.0, 0.6, 8), (2, 1.0, 0.25, 8), (1, 0.5, 0.04, 17)),
    "fast": ((4, 10.0, 0.6, 4), (2, 1.0, 0.25, 4), (1, 0.4, 0.06, 4)),
}
MASKED: Parts = {  # the same for masks, whose updates take longer and get further (`belief.Spread`)
    "tuned": ((4, 10.0, 0.6, 6), (2, 1.0, 0.25, 6), (1, 0.4, 0.05, 8)),
    "fast": ((4, 5.0, 0.6, 3), (2, 1.0, 0.25, 3), (1, 0.4, 0.08, 3)),
}
RENOISE = {"tuned": 0.9, "fast": 0.8}


@dataclass(frozen=True)
class SamplerOptions(Options):
    """The numbers of a run. Defaults are those measured best for the built-in prior.

    `renoise` below 1 is ours. The re-noised state is x0_y + sigma n, and the maximum that conjugate
    gradients give for x0_y has an error of its own, so that noise of the full sigma makes the state
    noisier than the network is told. With x0_y drawn from the local posterior 1 is exactly right.

    At 0 nothing is drawn, and a prediction is nearer the truth than the papers' r = sigma says: the
    built-in prior's rms error falls from 0.6 sigma at 0.03 to 0.1 sigma at 2. So r is ours: twice
    the prior's own error (`belief.measured`; once and three times were worse on four tasks), and
    0.5 sigma for a prior of unknown error. DPIR's r = 2.1 sigma is tuned for its own prior.
    """

    steps: int = option(
        50,
        "Sampling steps N. 50 for the built-in prior, 100 for the published ones.",
        min=1,
        max=10000,
    )
    sigma_max: float = option(
        0.0,
        "Noise level of the first step, standard deviation in [-1, 1] units; 0 is the prior's own "
        "largest. Below 1 the run starts from the degraded picture.",
        min=0.0,
        max=1000.0,
        step=0.1,
    )
    sigma_min: float = option(
        0.0,
        "Noise level of the last step; 0 is the prior's own smallest.",
        min=0.0,
        max=10.0,
        step=0.005,
        advanced=True,
    )
    renoise: float = option(
        0.9,
        "How much noise is drawn at the start and at every stochastic step. 1 is the papers'; 0.9 "
        "comes nearer the truth with the built-in prior; 0 is plug-and-play restoration: one "
        "answer, in 8 steps from sigma_max 2 to sigma_min 0.03.",
        min=0.0,
        max=1.0,
        step=0.05,
    )
    ode_steps: int = option(
        1,
        "Network calls per prediction: 1 is SubDAPS++, 5 with a Langevin update is DAPS.",
        min=1,
        max=100,
        advanced=True,
    )
    complementary: bool = option(
        True,
        "Trust the measurement further and draw only the noise that its own noise leaves out, so "
        "that each state is as noisy as the network is told; for CG updates of linear operators. "
        "Nearer the truth with the built-in prior. Off is the papers'.",
        advanced=True,
    )
    draws: bool = option(
        False,
        "Draw from the posterior: answers that lie as far from each other as from the truth, for "
        "Posterior Statistics. One alone is further from the truth, their mean nearer. Takes an "
        "even seed and even samples best; renoise and complementary do not count.",
    )
    device_noise: bool = option(
        False,
        "Draw noise with the GPU's own generator: less waiting for large pictures, but a seed then "
        "gives another picture on another kind of device. On the CPU it changes nothing.",
        advanced=True,
    )
    schedule: str = option(
        BY_STEPS,
        "'by steps' takes steps, sigma_max and sigma_min. The others have noise levels and three "
        "resolutions of their own, measured best for the built-in prior, and those three and "
        "renoise do not count: where blur or many missing pixels are undone, or a picture "
        "enlarged, 'tuned' comes nearer the truth than 50 steps in less time, and 'fast' takes a "
        "quarter of the time and stays within half a dB. Pixel priors only.",
        choices=(BY_STEPS, *TUNED),
    )

    @property
    def tuned(self) -> bool:
        """Whether the noise levels are measured ones (`TUNED`)."""
        return self.schedule != BY_STEPS

    @property
    def drawn(self) -> float:
        """How much noise is drawn: `renoise`, or what was measured best with the levels."""
        return RENOISE.get(self.schedule, self.renoise)

    @property
    def belief(self) -> float:
        """r / sigma, how far an update believes a prediction to lie from the truth."""
        return PLUG_AND_PLAY if self.drawn == 0 else 1.0


def schedule_for(
    prior: Prior, options: SamplerOptions, measurement: Measurement | None = None
) -> Schedule:
    """The noise levels and resolutions of a run with this prior.

    The grid is Karras et al.'s with rho = 7 between the asked or the prior's own levels, or one of
    `TUNED`, or of `MASKED` where the measurement is a mask's. A discrete-time prior has it rounded
    to the levels it knows. Raises `ValueError` for one of `TUNED` and a latent prior.
    """
    spec = prior.spec
    if options.tuned:
        masked = measurement is not None and spreads(prior, measurement)
        return tuned_schedule(prior, options.schedule, (MASKED if masked else TUNED))
    sigma_max = options.sigma_max or spec.sigma_max
    sigma_min = options.sigma_min or min(spec.sigma_min, sigma_max)
    grid = karras(options.steps, sigma_max, sigma_min)
    factors = spread_factors(options.steps, spec.factors, spec.switch_points)
    return known_levels(prior, grid, factors)


def tuned_schedule(prior: Prior, name: str, known: Parts) -> Schedule:
    """One of `TUNED` or `MASKED`: at each resolution levels of equal ratios, overlapping the next.

    A picture reduced q times has the same noise at sigma / q, so that the noise of single pixels
    falls all the way. Raises `ValueError` for a latent prior, to whose states no level belongs.
    """
    if not isinstance(prior.codec, Identity):
        raise ValueError(
            f"{prior.spec.name} works on latents, and the schedule {name!r} was measured for "
            f"pixels; set schedule to {BY_STEPS!r}."
        )
    parts, factors = [], []
    for factor, first, last, steps in known[name]:
        parts.append(torch.logspace(log10(first), log10(last), steps, dtype=torch.float64))
        factors += [factor] * steps
    grid = torch.cat(parts).clamp(prior.spec.sigma_min, prior.spec.sigma_max)
    return known_levels(prior, grid, tuple(factors))


def known_levels(prior: Prior, grid: Tensor, factors: tuple[int, ...]) -> Schedule:
    """The schedule of a grid (N,), rounded to what a discrete-time prior knows."""
    known = prior.spec.sigmas
    sigmas = grid if known is None else round_to(grid, known.cpu().double())
    return Schedule(torch.cat([sigmas, sigmas.new_zeros(1)]), factors, grid)
