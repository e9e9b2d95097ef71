"""How far a prediction is believed to lie from the truth, where an update knows one r only.

The papers take r = sigma. A draw of x0_y puts noise of that level on all that nothing was measured
of, four to nine times the built-in prior's error: colour noise. With a measured `ErrorCurve` it is
r = 2 rms(sigma), twice the error's root mean square: that error lies at low frequencies, where most
measurements look. With once, the mean of four draws (`draws.py`) was 0.9 dB worse on
super-resolution of the tuning photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ...models.prior import Prior
from ..measurement import Measurement
from ..updates.spectral import spectral_update
from ..updates.update import MeasurementUpdate, Surroundings

TIMES = 2.0  # r / rms(sigma)
QUIET = 0.1  # noise up to which `Spread` serves: 0.2 dB ahead at 0.1, 0.8 behind at 0.2
ITERATIONS, TOLERANCE = 6, 0.1  # of `Spread`; 20 of them were .1 dB ahead of 4


def believed(
    prior: Prior, update: MeasurementUpdate, sigma: float, factor: int, belief: float
) -> float:
    """r of `restore`: as measured of the prior for a draw from the local posterior and for
    plug-and-play (belief < 1), else belief times sigma."""
    if (getattr(update, "sample", False) or belief < 1) and prior.spec.errors:
        return measured(prior, sigma, factor)
    return belief * sigma


def spreads(prior: Prior, measurement: Measurement) -> bool:
    """Whether `Spread` serves: pixels seen each by itself with little noise, which it leaves in the
    state, and an error whose spectrum is known."""
    errors, operator = prior.spec.errors, measurement.operator
    masked = operator.linear and "one_to_one" in operator.structure
    quiet = measurement.noise_level <= QUIET
    return masked and quiet and errors is not None and errors.spectrum(1.0) is not None


@dataclass(frozen=True, eq=False)
class Spread:
    """The update of a mask by tuned schedules, with twice the error of every frequency for r.

    With one r a mask moves the pixels that it shows and no others until the network is asked again.
    """

    prior: Prior
    through_network: ClassVar[bool] = False
    ancestral: ClassVar[bool] = False
    proximal: ClassVar[bool] = False  # of one r

    def __call__(
        self, x0_hat: Tensor, r: float, measurement: Measurement, around: Surroundings | None = None
    ) -> Tensor:
        """x0_y; r does not count."""
        errors = self.prior.spec.errors
        spectrum = errors.spectrum(around.sigma, around.factor) if errors and around else None
        assert spectrum is not None
        twice = [[TIMES * error for error in part] for part in spectrum]
        return spectral_update(x0_hat, twice, measurement, ITERATIONS, TOLERANCE)


def best_update(
    prior: Prior, measurement: Measurement, update: MeasurementUpdate, tuned: bool
) -> MeasurementUpdate:
    """`Spread` for a mask in a tuned run in place of a maximum, else the update itself."""
    return Spread(prior) if tuned and update.proximal and spreads(prior, measurement) else update


def finished(prior: Prior, sigma: float) -> float:
    """r of the last prediction: rms(sigma), and sigma where the prior's error is not known."""
    errors = prior.spec.errors
    return min(sigma, errors.rms(sigma)) if errors else sigma


def measured(prior: Prior, sigma: float, factor: int) -> float:
    """2 rms(sigma), at most sigma; sigma where the prior's error is not known."""
    errors = prior.spec.errors
    return min(sigma, TIMES * errors.rms(sigma, factor)) if errors else sigma
