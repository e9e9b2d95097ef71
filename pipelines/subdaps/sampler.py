"""SubDAPS++: posterior sampling at dynamic resolution.

Reference: "SubDAPS++" (ICML 2026, arXiv 2605.14267); DAPS (arXiv 2407.01521) is the same loop at
one resolution with a short ODE and a Langevin update, DPS (arXiv 2209.14687) with a likelihood
gradient.

| paper           | here            | meaning                                                      |
|-----------------|-----------------|--------------------------------------------------------------|
| x_t             | x               | noisy state x0 + sigma n; the paper's is alpha_t times that  |
| sigma_t/alpha_t | sigma           | noise level, standard deviation in [-1, 1] units             |
| x0(x_t)         | x0_hat          | the network's prediction                                     |
| x0(x_t, y)      | x0_y            | the prediction after the measurement update                  |
| A, y            | measurement     | degradation operator and what was measured                   |
| U_i             | NearestUpsample | from the level to the full canvas                            |
| h               | factor == 1     | first step at full resolution; before it all are stochastic  |

Where we depart from the official code, and why:
- The state is x_t / alpha_t. Re-noising and the deterministic step read the same in both; the
  initial state x_T = alpha_T pool(y) + sigma_T n becomes pool(y) + sigma n.
- Any picture size: the canvas is the picture reflected up to a multiple of what the network and the
  coarsest level need, and the operator crops it. 256 x 256 needs no canvas.
- The first image is the operator's own guess (`Operator.guess`); the official one fills hidden
  pixels with black. Its weight against the noise is 1 / sigma_max.

With a latent prior the state is a latent and the loop the same (LatentDAPS; SubDAPS++ has pixels
only): the first image is encoded, and the measurement sees a state through the decoder
(`operators/decode.py`). A level below full size is the latent of a reduced picture, so U acts on
what was decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.codec import IDENTITY, Codec
from ...models.prior import Prior
from ..level import canvas_size, level_operator
from ..measurement import Measurement
from ..noise import Noise
from ..operators.canvas import pad_reflect, pool, upsample
from ..options import Options, option
from ..prediction import check_finite, predict
from ..replay import Replay, launched
from ..schedule import Schedule, karras, round_to, spread_factors
from ..step import Step, column
from ..updates.update import MeasurementUpdate, Surroundings
from . import complement
from .switch import SwitchRule, Updated, never

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
        "How much noise is drawn at the start and at every stochastic step. 1 is the papers' and "
        "samples the posterior, for uncertainty too; 0.9 comes nearer the truth with the built-in "
        "prior; 0 is plug-and-play restoration: one answer, in 8 steps from sigma_max 2 to "
        "sigma_min 0.03.",
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


def restore(
    prior: Prior,
    measurement: Measurement,
    schedule: Schedule,
    update: MeasurementUpdate,
    noise: Noise,
    *,
    switch: SwitchRule = never,
    renoise: float = 1.0,
    belief: float = 1.0,
    ode_steps: int = 1,
    complementary: bool = False,
    replay: Replay = launched,
) -> Iterator[Step]:
    """Sample p(x0 | y), one yielded `Step` per noise level.

    measurement: y, (B, C, h, w) in [-1, 1]. noise: one stream per sample. replay: see `Recordings`,
    the rest `SamplerOptions`. The last step has no data term: its x0_hat is the result (`picture`).
    Raises `FloatingPointError` (not finite) and `ArithmeticError` (a wrong derivative: `adjoint`).
    """
    size, codec, through = measurement.image_size, prior.codec, update.through_network
    canvas = canvas_size(size, prior.spec.multiple_of * codec.factor * max(schedule.factors))
    sigmas, grid = schedule.sigmas.tolist(), schedule.grid.tolist()
    factors, steps, last = schedule.factors, schedule.steps, schedule.steps - 1
    x = noised(guessed(measurement, canvas, factors[0], codec), renoise * sigmas[0], noise)
    level = {f: level_operator(measurement, canvas, f, codec) for f in set(factors)}
    at = {f: replace(measurement, operator=a) for f, a in level.items()}  # checks y: a host wait
    for i in range(steps):  # i = 0 is the noisiest
        sigma, sigma_next, factor = sigmas[i], sigmas[i + 1], factors[i]
        changes, untried = i < last and factors[i + 1] != factor, factor not in factors[:i]
        x0_hat, pullback = predict(prior, x, sigma, factor, ode_steps, through, untried)
        check_finite(x0_hat, i, sigma)
        deterministic = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
        x0_y, spread, source = x0_hat, belief * sigma, noise
        if i < last:
            around = Surroundings(sigma_next, noise, i / steps, pullback, changes, factor, replay)
            if complementary and renoise > 0 and complement.exists(update, level[factor]):
                spread, source = complement.reflected(noise, update, at[factor], around)
            x0_y = update(x0_hat, spread, at[factor], around)
            if factor == 1:
                deterministic = switch(Updated(x0_hat, x0_y, spread, at[factor], update, around))
        yield Step(i, steps, sigma, grid[i], factor, x, x0_hat, x0_y, deterministic, size)
        if i == last:
            return
        if changes:
            larger = enlarge(x0_y, factor // factors[i + 1], codec)
            x = noised(larger, renoise * sigma_next, noise)
            continue
        kept = kept_noise(deterministic, sigma, sigma_next, update.ancestral)
        x = transition(x, x0_y, sigma, sigma_next, kept, source, renoise)


def noised(x: Tensor, std: float, noise: Noise) -> Tensor:
    """x + std n."""
    return x + std * noise(x)


def guessed(measurement: Measurement, canvas: tuple[int, int], factor: int, codec: Codec) -> Tensor:
    """The operator's guess, continued to the canvas and reduced, as a state without noise."""
    guess, size = measurement.operator.guess(measurement.y), measurement.image_size
    if tuple(guess.shape[-2:]) != size:
        guess = F.interpolate(guess, size=size, mode="bicubic", align_corners=False)
    return codec.encode(pool(pad_reflect(guess, *canvas), factor))


def transition(
    x: Tensor,
    x0_y: Tensor,
    sigma: float,
    sigma_next: float,
    kept: Tensor,
    noise: Noise,
    renoise: float,
) -> Tensor:
    """x_next = x0_y + sigma_next (c eps + sqrt(1 - c^2) renoise n), eps = (x - x0_y) / sigma.

    kept: (B,), c in [0, 1]: 0 draws all noise anew (DAPS), 1 keeps it (DDIM), sigma_next / sigma is
    DDPM's ancestral step. Noise is drawn for every sample, also where it is not used, so that no
    stream depends on what the other samples of a batch do.
    """
    c = column(kept, x)
    eps = (x - x0_y) / sigma
    fresh = 1 - c.square()
    n = noise(x) if renoise > 0 else 0.0
    return x0_y + sigma_next * (c * eps + fresh.sqrt() * renoise * n)


def kept_noise(deterministic: Tensor, sigma: float, sigma_next: float, ancestral: bool) -> Tensor:
    """c of `transition` per sample, (B,) float32."""
    c = sigma_next / sigma if ancestral else 0.0
    return torch.where(deterministic, 1.0, c)


def enlarge(x: Tensor, factor: int, codec: Codec) -> Tensor:
    """The state of a picture `factor` times as large: every pixel repeated, through the codec."""
    return codec.encode(upsample(codec.decode(x), factor))


def picture(x: Tensor, size: tuple[int, int], codec: Codec = IDENTITY) -> Tensor:
    """The picture of a state at full resolution: (B, C, H', W') or its latent -> (B, C, H, W)."""
    return codec.decode(x)[..., : size[0], : size[1]]
