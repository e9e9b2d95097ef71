"""Draws from the posterior p(x0 | y), as different from each other as the truth is from them.

Ours, of published parts. The reverse diffusion of p(x0 | y) needs E[x0 | x, y] and nothing else of
the measurement (Song et al., "Score-Based Generative Modeling", ICLR 2021, arXiv 2011.13456). With
p(x0 | x) = N(x0_hat, r^2) that mean is the minimum which conjugate gradients give anyway (the
Gaussian posterior of Pseudoinverse-Guided Diffusion, ICLR 2023), and r is what was measured of the
prior, at every frequency its own (`updates/spectral.py`). The step is SDE-DPM-Solver++ (2M) (Lu et
al., 2022, arXiv 2211.01095) in the state x = x0 + sigma n:

    h = log(sigma / sigma_next),   w = 1 - exp(-2 h)
    D = x0_y + (h / 2 h_before) (x0_y - x0_y,before)
    x_next = (1 - w) x + w D + sigma_next sqrt(w) n

| there                    | here       | meaning                                               |
|--------------------------|------------|-------------------------------------------------------|
| x_theta(x_s, s)          | x0_y       | prediction, here after the measurement                |
| lambda = log(alpha/sigma)| -log sigma | half the logarithm of the signal-to-noise ratio       |
| r_t                      | r          | how far x0_hat is believed to lie from the truth      |

What SubDAPS++ does at a change of resolution, fresh noise on the enlarged x0_y, makes the answers
agree: a smooth picture says that there is no texture, with thousands of pixels that each say it
faintly. So the state goes on as it is. Averages over q x q pixels of a state at sigma have noise of
sigma / q; the coarse state is led there, and only what it does not hold is drawn:

    x_next = U x' + sigma_next (n - U pool(n)),   x' the coarse state at sigma_next / q

Where the update knows one r only (JPEG, nonlinear operators, latents) see `belief.py`.

Answers come in pairs: the noise of seed 2 j + 1 is minus that of seed 2 j. Each is a draw by
itself; together their mean is nearer the posterior's, since what is odd in the noise falls out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...models.codec import Identity
from ...models.prior import Prior
from ..answers import Finite
from ..level import canvas_size
from ..measurement import Measurement
from ..noise import Noise, per_sample_noise
from ..operators.canvas import pool, upsample
from ..schedule import Schedule
from ..step import Step
from ..updates.spectral import spectral_update
from ..updates.update import MeasurementUpdate, Surroundings
from .belief import measured
from .beyond_white import Lamps
from .sampler import guessed, levels, noised, stochastic


def draw(
    prior: Prior,
    measurement: Measurement,
    schedule: Schedule,
    update: MeasurementUpdate,
    noise: Noise,
) -> Iterator[Step]:
    """Draw from p(x0 | y), one yielded `Step` per noise level; arguments as those of `restore`.

    update: for what has no spectrum (`explained`), and r = sigma for a prior of unknown error.
    Raises `ValueError` for an update that is no maximum, or a latent prior at several resolutions;
    `FloatingPointError` as `restore` does.
    """
    check(prior, schedule, update)
    size, codec = measurement.image_size, prior.codec
    canvas = canvas_size(size, prior.spec.multiple_of * codec.factor * max(schedule.factors))
    sigmas, grid, factors = schedule.sigmas.tolist(), schedule.grid.tolist(), schedule.factors
    at = levels(measurement, canvas, factors, codec)
    x = noised(guessed(measurement, canvas, factors[0], codec), sigmas[0], noise)
    steps, last = schedule.steps, schedule.steps - 1
    before: tuple[Tensor, float] | None = None  # x0_y and h of the step before
    finite, lamps = Finite(), Lamps()
    for i in range(steps):  # i = 0 is the noisiest
        sigma, sigma_next, factor = sigmas[i], sigmas[i + 1], factors[i]
        x0_hat, _ = lamps.predict(prior, x, sigma, factor, 1, False)
        finite.check(x0_hat, sigma, last=i == last)
        x0_y, q = x0_hat, 1
        if i < last:
            q = factor // factors[i + 1]
            around = Surroundings(sigma, sigma_next, noise, i / steps, None, q > 1, factor)
            x0_y = explained(prior, x0_hat, sigma, at[factor], update, around)
        yield Step(i, steps, sigma, grid[i], factor, x, x0_hat, x0_y, stochastic(x), size)
        if i == last:
            return
        x, before = advanced(x, x0_y, before, sigma, sigma_next / q, noise)
        share = max(0.0, 1 - (sigma_next / q / sigma) ** 2)
        lamps.follow(x0_y, at[factor].operator, share)
        if q > 1:
            x, before = refined(x, q, sigma_next, noise), None
            lamps.enlarged(x0_y, q, codec)


def check(prior: Prior, schedule: Schedule, update: MeasurementUpdate) -> None:
    """Raise `ValueError` for what cannot be drawn from."""
    if not update.proximal:
        raise ValueError(
            "Draws from the posterior take the maximum of CG Measurement Update with 'sample' "
            f"off, and a {type(update).__name__} came; disconnect it, or turn draws off."
        )
    if len(set(schedule.factors)) > 1 and not isinstance(prior.codec, Identity):
        raise ValueError(
            f"{prior.spec.name} works on latents, which no average of latents reduces; leave "
            "Multi-Resolution Prior out for draws."
        )


def explained(
    prior: Prior,
    x0_hat: Tensor,
    sigma: float,
    measurement: Measurement,
    update: MeasurementUpdate,
    around: Surroundings,
) -> Tensor:
    """E[x0 | x, y] as a Gaussian belief has it, with all that is known of the prior's error."""
    errors = prior.spec.errors
    spectrum = errors.spectrum(sigma, around.factor) if errors else None
    if spectrum and measurement.operator.linear:
        return spectral_update(x0_hat, spectrum, measurement)
    return update(x0_hat, measured(prior, sigma, around.factor), measurement, around)


def advanced(
    x: Tensor,
    x0_y: Tensor,
    before: tuple[Tensor, float] | None,
    sigma: float,
    sigma_next: float,
    noise: Noise,
) -> tuple[Tensor, tuple[Tensor, float] | None]:
    """The next state, and (x0_y, h) for the step after it; two levels may coincide (h = 0)."""
    h = math.log(sigma / sigma_next)
    n = noise(x)  # drawn in any case, so that a stream does not depend on the levels
    if h <= 0:
        return x, before
    ahead = x0_y if before is None else x0_y + h / (2 * before[1]) * (x0_y - before[0])
    w = -math.expm1(-2 * h)
    return (1 - w) * x + w * ahead + sigma_next * w**0.5 * n, (x0_y, h)


def refined(x: Tensor, q: int, std: float, noise: Noise) -> Tensor:
    """The state with q times as many pixels a side: (B, C, h, w) -> (B, C, q h, q w).

    std: of the noise of the finer state. Its averages over q x q pixels are the coarse state.
    """
    x = upsample(x, q)
    n = noise(x)
    return x + std * (n - upsample(pool(n, q), q))


def paired_noise(
    seeds: Sequence[int], source_of: Callable[[list[int]], Noise] = per_sample_noise
) -> Noise:
    """A noise source as `source_of` makes it, where seed 2 j + 1 draws minus what seed 2 j
    draws."""
    source = source_of([seed // 2 for seed in seeds])
    signs = torch.tensor([-1.0 if seed % 2 else 1.0 for seed in seeds])

    def drawn(like: Tensor) -> Tensor:
        n = source(like)
        return n * signs.to(n)[:, None, None, None]

    return drawn
