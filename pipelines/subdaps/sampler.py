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
- With `complementary`, the default of `SamplerOptions`, r is 2 sigma_{t-1} in place of sigma_t, and
  the noise of the next state comes with the update: see `complement`.
- Where clipped pixels are bounds, light beyond white is kept from the network (`beyond_white`).
- With `tuned`, for the few steps of `options.TUNED`, a coarse state is enlarged smoothly and not by
  repeating its pixels, since it goes on at little noise; the last prediction is updated too
  (`finished`), since it follows a step of larger noise; and masks have an update of their own
  (`belief.Spread`).

With a latent prior the state is a latent and the loop the same (LatentDAPS; SubDAPS++ has pixels
only): the first image is encoded, and the measurement sees a state through the decoder
(`operators/decode.py`). A level below full size is the latent of a reduced picture, so U acts on
what was decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ...models.codec import Codec
from ...models.prior import Prior
from ...models.sending import sent
from ..answers import Finite
from ..level import canvas_size, level_operator
from ..measurement import Measurement
from ..noise import Noise
from ..operators.canvas import pad_reflect, pool
from ..replay import Replay, launched
from ..schedule import Schedule
from ..step import Step
from ..transition import transition
from ..updates.update import MeasurementUpdate, Surroundings
from . import complement
from .belief import believed, best_update, finished
from .beyond_white import Lamps
from .switch import SwitchRule, Updated, never


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
    tuned: bool = False,
    replay: Replay = launched,
) -> Iterator[Step]:
    """Sample p(x0 | y), one yielded `Step` per noise level; the last x0_hat is the result.

    measurement: y, (B, C, h, w) in [-1, 1]. noise: one stream per sample. Rest: `SamplerOptions`.
    Raises `FloatingPointError` (not finite) and `ArithmeticError` (a wrong derivative: `adjoint`).
    """
    size, codec, through = measurement.image_size, prior.codec, update.through_network
    finish, update = tuned and update.proximal, best_update(prior, measurement, update, tuned)
    canvas = canvas_size(size, prior.spec.multiple_of * codec.factor * max(schedule.factors))
    sigmas, grid, factors = schedule.sigmas.tolist(), schedule.grid.tolist(), (*schedule.factors, 1)
    at, finite, lamps = levels(measurement, canvas, factors, codec), Finite(), Lamps()
    x = noised(guessed(measurement, canvas, factors[0], codec), renoise * sigmas[0], noise)
    none, told, both, steps = stochastic(x), sigmas_of(schedule, x), (replay, finite), len(grid)
    for i in range(steps):  # i = 0 is the noisiest
        sigma, sigma_next, factor, factor_next = *sigmas[i : i + 2], *factors[i : i + 2]
        m, q, new = at[factor], factor // factor_next, factor not in factors[:i]
        x0_hat, pullback = lamps.predict(prior, x, sigma, factor, ode_steps, through, new, told[i])
        finite.check(x0_hat, sigma, last=i == steps - 1)
        around = Surroundings(sigma, sigma_next, noise, i / steps, pullback, q > 1, factor, *both)
        if i == steps - 1:  # it has no data term but for `tuned`
            x0_hat = update(x0_hat, finished(prior, sigma), m, around) if finish else x0_hat
            yield Step(i, steps, sigma, grid[i], factor, x, x0_hat, x0_hat, none, size)
            return
        ours = complementary and renoise > 0 and complement.exists(update, m.operator)
        r = 2 * sigma_next if ours else believed(prior, update, sigma, factor, belief)
        x0_y, n = updated(x0_hat, r, update, m, around, ours and q == 1)
        lamps.follow(x0_y, m.operator)
        asked = factor == 1 and switch is not never
        kept = switch(Updated(x0_hat, x0_y, r, m, update, around)) if asked else None
        shown = none if kept is None else kept
        yield Step(i, steps, sigma, grid[i], factor, x, x0_hat, x0_y, shown, size)
        if q > 1:
            x = noised(lamps.enlarged(x0_y, q, codec, tuned), renoise * sigma_next, noise)
            continue
        c = kept_noise(kept, sigma, sigma_next, update.ancestral)
        x = transition(x, x0_y, sigma, sigma_next, c, renewed(n, x, renoise, noise))


def updated(
    x0_hat: Tensor,
    r: float,
    update: MeasurementUpdate,
    measurement: Measurement,
    around: Surroundings,
    complementary: bool,
) -> tuple[Tensor, Tensor | None]:
    """x0_y, and the noise that adds to its own (`complement`) or None for any."""
    if complementary:
        n = around.noise(x0_hat)
        return complement.updated(x0_hat, n, r, update, measurement, around)
    return update(x0_hat, r, measurement, around), None


def levels(
    measurement: Measurement, canvas: tuple[int, int], factors: Iterable[int], codec: Codec
) -> dict[int, Measurement]:
    """The measurement of a state at each level."""
    seen = {f: level_operator(measurement, canvas, f, codec) for f in set(factors)}
    return {f: measurement.at(operator) for f, operator in seen.items()}


def noised(x: Tensor, std: float, noise: Noise) -> Tensor:
    """x + std n."""
    return x + std * noise(x)


def guessed(measurement: Measurement, canvas: tuple[int, int], factor: int, codec: Codec) -> Tensor:
    """The operator's guess, continued to the canvas and reduced, as a state without noise."""
    guess, size = measurement.operator.guess(measurement.y), measurement.image_size
    if tuple(guess.shape[-2:]) != size:
        guess = F.interpolate(guess, size=size, mode="bicubic", align_corners=False)
    return codec.encode(pool(pad_reflect(guess, *canvas), factor))


def kept_noise(
    deterministic: Tensor | None, sigma: float, sigma_next: float, ancestral: bool
) -> Tensor | float:
    """c of `transition` per sample, (B,), or of all where nobody was asked."""
    c = sigma_next / sigma if ancestral else 0.0
    return c if deterministic is None else c + (1 - c) * deterministic


def renewed(n: Tensor | None, x: Tensor, renoise: float, noise: Noise) -> Tensor | None:
    """The next state's noise, n or what is drawn, renoise times; None where it gets none."""
    if renoise == 0:
        return None
    n = noise(x) if n is None else n
    return n if renoise == 1 else renoise * n


def sigmas_of(schedule: Schedule, like: Tensor) -> Tensor:
    """Every step's noise level for every sample, (N + 1, B) on `like`'s device, sent once."""
    return sent(schedule.sigmas.float(), like.device)[:, None].repeat(1, len(like))


def stochastic(x: Tensor) -> Tensor:
    """(B,) bool, no sample's next step being deterministic."""
    return torch.zeros(len(x), dtype=torch.bool, device=x.device)
