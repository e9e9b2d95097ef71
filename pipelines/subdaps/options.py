"""The numbers of a SubDAPS++ run (arXiv 2605.14267), and its noise levels."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...models.prior import Prior
from ..options import Options, option
from ..schedule import Schedule, karras, round_to, spread_factors

PLUG_AND_PLAY = 0.5  # r / sigma where no noise is drawn


@dataclass(frozen=True)
class SamplerOptions(Options):
    """The numbers of a run. Defaults are those measured best for the built-in prior.

    `renoise` below 1 is ours. The re-noised state is x0_y + sigma n, and the maximum that conjugate
    gradients give for x0_y has an error of its own, so that noise of the full sigma makes the state
    noisier than the network is told. With x0_y drawn from the local posterior 1 is exactly right.

    At 0 nothing is drawn, and a prediction is nearer the truth than the papers' r = sigma says: the
    built-in prior's rms error falls from 0.6 sigma at 0.03 to 0.1 sigma at 2. r = 0.5 sigma is ours
    (measured best of 0.15 to 1 on four tasks), as DPIR's r = 2.1 sigma is tuned for its own prior.
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

    @property
    def belief(self) -> float:
        """r / sigma, how far an update believes a prediction to lie from the truth."""
        return PLUG_AND_PLAY if self.renoise == 0 else 1.0


def schedule_for(prior: Prior, options: SamplerOptions) -> Schedule:
    """The noise levels and resolutions of a run with this prior.

    The grid is Karras et al.'s with rho = 7 between the asked or the prior's own levels. A
    discrete-time prior has it rounded to the levels it knows.
    """
    spec = prior.spec
    sigma_max = options.sigma_max or spec.sigma_max
    sigma_min = options.sigma_min or min(spec.sigma_min, sigma_max)
    grid = karras(options.steps, sigma_max, sigma_min)
    sigmas = grid if spec.sigmas is None else round_to(grid, spec.sigmas.cpu().double())
    factors = spread_factors(options.steps, spec.factors, spec.switch_points)
    return Schedule(torch.cat([sigmas, sigmas.new_zeros(1)]), factors, grid)
