"""The seam between a sampler and a measurement update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from ..answers import Finite
from ..measurement import Measurement
from ..noise import Noise
from ..replay import Replay, launched


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What stands around a prediction, for updates that need more than the prediction itself.

    sigma:       the noise level of the state that x0_hat was predicted from.
    sigma_next:  the noise level that the next state will have.
    noise:       the run's noise source.
    progress:    i / N, the fraction of the run that is done, in [0, 1).
    pullback:    u -> (d x0_hat / d x)^T u through the network; given when the update asks for it.
    changes_resolution: whether the next state has another resolution.
    factor:      how many times smaller than the full canvas the prediction is.
    replay:      plays back work that is always the same; see `pipelines/replay.py`.
    finite:      whom an update tells that what it makes may not be finite; None where it is to see
    for itself.
    """

    sigma: float
    sigma_next: float
    noise: Noise
    progress: float = 0.0
    pullback: Callable[[Tensor], Tensor] | None = None
    changes_resolution: bool = False
    factor: int = 1
    replay: Replay = launched
    finite: Finite | None = None


@runtime_checkable
class MeasurementUpdate(Protocol):
    """Moves the prediction x0_hat towards the measurement.

    through_network: whether it needs `Surroundings.pullback`, a backward pass through the network.
    ancestral: whether the sampler shall take DDPM's ancestral steps after it (DPS) in place of
        independent re-noising (DAPS).
    proximal: whether x0_y is argmin 1/2 |y - A(z)|^2 + rho/2 |z - x0_hat|^2, rho = (noise_level /
        r)^2, and not a draw or a step (`complement`).
    """

    through_network: ClassVar[bool]
    ancestral: ClassVar[bool]

    @property
    def proximal(self) -> bool:
        """Whether x0_y is that minimum."""
        ...

    def __call__(
        self,
        x0_hat: Tensor,
        r: float,
        measurement: Measurement,
        around: Surroundings | None = None,
    ) -> Tensor:
        """x0_y: (B, C, h, w) -> (B, C, h, w).

        r: how far x0_hat is believed to lie from the truth, standard deviation in [-1, 1] units;
        in the papers the noise level of the state that x0_hat was predicted from. measurement: y
        with the operator that takes images of x0_hat's own size.
        """
        ...
