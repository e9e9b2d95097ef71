"""How far a prediction is believed to lie from the truth, where an update knows one r only.

The papers take r = sigma. A draw of x0_y puts noise of that level on all that nothing was measured
of, four to nine times the built-in prior's error: colour noise. With a measured `ErrorCurve` it is
r = 2 rms(sigma), twice the error's root mean square: that error lies at low frequencies, where most
measurements look. With once, the mean of four draws (`draws.py`) was 0.9 dB worse on
super-resolution of the tuning photographs.
"""

from __future__ import annotations

from ...models.prior import Prior
from ..updates.update import MeasurementUpdate

TIMES = 2.0  # r / rms(sigma)


def believed(
    prior: Prior, update: MeasurementUpdate, sigma: float, factor: int, belief: float
) -> float:
    """r of `restore`: as measured of the prior for a draw from the local posterior, else belief
    times sigma."""
    if getattr(update, "sample", False) and prior.spec.errors:
        return measured(prior, sigma, factor)
    return belief * sigma


def measured(prior: Prior, sigma: float, factor: int) -> float:
    """2 rms(sigma), at most sigma; sigma where the prior's error is not known."""
    errors = prior.spec.errors
    return min(sigma, TIMES * errors.rms(sigma, factor)) if errors else sigma
