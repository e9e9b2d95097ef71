"""Prior: any network, turned into a denoiser."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .codec import Codec, Identity

FREQUENCIES = (1 / 128, 1 / 64, 1 / 32, 1 / 16, 1 / 8, 0.18, 1 / 4, 0.35, 1 / 2)  # cycles a pixel


@dataclass(frozen=True)
class ErrorCurve:
    """How far a prior's predictions lie from the truth, as it was measured.

    points: reduction -> rows that rise in noise level, all of one length: (noise level, root mean
    square of x0_hat - x0), both in [-1, 1] units, and for RGB states that of single coefficients
    of its cosine transform: at each of FREQUENCIES of luminance (1, 1, 1) / sqrt(3), then at each
    of chroma. A transform of white noise of level 1 has coefficients of 1.
    """

    points: dict[int, tuple[tuple[float, ...], ...]]

    def rms(self, sigma: float, factor: int = 1) -> float:
        """The error at a noise level > 0 for pictures reduced `factor` times."""
        return self.row(sigma, factor)[0]

    def spectrum(self, sigma: float, factor: int = 1) -> tuple[tuple[float, ...], ...] | None:
        """That of luminance and of chroma at FREQUENCIES, at most sigma; None where unknown."""
        _, *rest = self.row(sigma, factor)
        held = tuple(min(sigma, error) for error in rest)
        return (held[: len(FREQUENCIES)], held[len(FREQUENCIES) :]) if held else None

    def row(self, sigma: float, factor: int) -> tuple[float, ...]:
        """All errors of a noise level: between measured ones a line in the logarithms of both;
        below the first they fall with the noise, above the last they stay. A reduction that was
        not measured has the nearest one's."""
        nearest = min(self.points, key=lambda f: abs(math.log(f / factor)))
        rows = self.points[nearest]
        (lowest, *least), (highest, *most) = rows[0], rows[-1]
        if sigma <= lowest:
            return tuple(error * sigma / lowest for error in least)
        if sigma >= highest:
            return tuple(most)
        j = next(j for j, (level, *_) in enumerate(rows) if level >= sigma)
        (low, *below), (high, *above) = rows[j - 1], rows[j]
        share = math.log(sigma / low) / math.log(high / low)
        return tuple(a * (b / a) ** share for a, b in zip(below, above, strict=True))

    def text(self) -> str:
        """JSON, as a weight file's metadata holds it."""
        return json.dumps({str(f): rows for f, rows in self.points.items()})

    @classmethod
    def read(cls, text: str | None) -> ErrorCurve | None:
        """The curve of such JSON; None of none. Raises `ValueError` where it is broken."""
        if not text:
            return None
        try:
            points = {int(f): tuple(tuple(map(float, row)) for row in rows)
                      for f, rows in json.loads(text).items()}  # fmt: skip
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(BROKEN) from error
        for rows in points.values():
            levels, lengths = [row[0] for row in rows if row], {len(row) for row in rows}
            rising = levels == sorted(set(levels)) and len(levels) == len(rows) > 0
            if not rising or lengths not in LENGTHS or min(min(row) for row in rows) <= 0:
                raise ValueError(BROKEN)
        if not points:
            raise ValueError(BROKEN)
        return cls(points)


LENGTHS = ({2}, {2 + 2 * len(FREQUENCIES)})
BROKEN = (
    "The weight file's error_curve is broken: its noise levels do not rise, or its numbers are not "
    "all above 0; leave it out and measure the prior's error anew."
)


@dataclass(frozen=True, eq=False)
class PriorSpec:
    """What a sampler must know of a prior.

    channels:      of the state it denoises, 3 for pixels.
    multiple_of:   h and w given to `denoise` must be multiples of this.
    native_size:   side in pixels of the pictures it was trained on.
    sigma_min, sigma_max: the noise levels it was trained for, standard deviations in [-1, 1] units.
    sigmas:        (T,) ascending noise levels of a discrete-time network, None for a continuous
    one.
    trained_factors: reductions (1 = full resolution) it was trained for.
    factors, switch_points: the resolutions a sampler shall use and where it changes, as fractions
                   of the run; (1,) and () for one resolution. See
                   `pipelines.schedule.spread_factors`.
    name:          for the user, in messages and reports.
    bytes_per_pixel: of memory that a float32 call takes at its peak, for each pixel of a state; 0
                   where it is not known. Known of convolutional networks alone, whose pictures
                   hardly change when they are cut into large tiles.
    errors:        how far its predictions lie from the truth, None where nobody has measured it.
    """

    channels: int = 3
    multiple_of: int = 1
    native_size: int = 256
    sigma_min: float = 0.01
    sigma_max: float = 80.0
    sigmas: Tensor | None = None
    trained_factors: tuple[int, ...] = (1,)
    factors: tuple[int, ...] = (1,)
    switch_points: tuple[float, ...] = ()
    name: str = "prior"
    bytes_per_pixel: float = 0.0
    errors: ErrorCurve | None = None


@runtime_checkable
class Prior(Protocol):
    """A denoiser: E[x0 | x] for x = x0 + sigma n."""

    @property
    def spec(self) -> PriorSpec:
        """What a sampler must know of it."""
        ...

    @property
    def codec(self) -> Codec:
        """Between pixels and the space it works in."""
        ...

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """x0_hat of every sample.

        x: (B, C, h, w) float32, a picture reduced `factor` times by averaging, plus noise.
        sigma: (B,) float32, the noise level of each sample.
        Returns (B, C, h, w) float32.
        """
        ...


@dataclass(frozen=True, eq=False)
class WrappedPrior:
    """What priors around another one share: its spec and its codec. They differ in `denoise`."""

    prior: Prior

    @property
    def spec(self) -> PriorSpec:
        """The wrapped prior's."""
        return self.prior.spec

    @property
    def codec(self) -> Codec:
        """The wrapped prior's."""
        return self.prior.codec


@dataclass(frozen=True, eq=False)
class MultiResolutionPrior(WrappedPrior):
    """The same prior, told to work at several resolutions, coarse first (SubDAPS++).

    factors: falling reductions ending in 1, such as (4, 2, 1); switch_points: one fewer, rising
    fractions of the run. Raises `ValueError` where they do not fit.
    """

    factors: tuple[int, ...] = (4, 2, 1)
    switch_points: tuple[float, ...] = (1 / 3, 2 / 3)

    def __post_init__(self) -> None:
        falling = all(
            a > b and a % b == 0 for a, b in zip(self.factors, self.factors[1:], strict=False)
        )
        if not self.factors or self.factors[-1] != 1 or not falling:
            raise ValueError(
                f"The resolutions are {self.factors}; give falling reductions, each a multiple of "
                "the next, that end in 1, such as 4, 2, 1."
            )
        inside = all(0 < p < 1 for p in self.switch_points)
        rising = all(
            a < b for a, b in zip(self.switch_points, self.switch_points[1:], strict=False)
        )
        if len(self.switch_points) != len(self.factors) - 1 or not inside or not rising:
            raise ValueError(
                f"{len(self.factors)} resolutions need {len(self.factors) - 1} rising switch "
                f"points between 0 and 1, but {list(self.switch_points)} came."
            )

    @cached_property
    def spec(self) -> PriorSpec:
        """The wrapped prior's, with these resolutions."""
        return replace(self.prior.spec, factors=self.factors, switch_points=self.switch_points)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's."""
        return self.prior.denoise(x, sigma, factor)


@dataclass(frozen=True, eq=False)
class MeasuredPrior(WrappedPrior):
    """The same prior, with its error curve."""

    errors: ErrorCurve

    @cached_property
    def spec(self) -> PriorSpec:
        """The wrapped prior's, with the curve."""
        return replace(self.prior.spec, errors=self.errors)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """The wrapped prior's."""
        return self.prior.denoise(x, sigma, factor)


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """The exact denoiser of pixels that are N(mean, std^2), each on its own.

    x0_hat = mean + std^2 / (std^2 + sigma^2) (x - mean). No network: for tests and for learning
    what a sampler does. A reduction by averaging f x f independent pixels divides the variance by
    f^2.
    """

    mean: float | Tensor = 0.0
    std: float = 0.5
    spec: PriorSpec = field(default_factory=lambda: PriorSpec(name="gaussian"))
    codec: Codec = field(default_factory=Identity)

    def denoise(self, x: Tensor, sigma: Tensor, factor: int = 1) -> Tensor:
        """E[x0 | x] in closed form."""
        variance = (self.std / factor) ** 2
        mean = torch.as_tensor(self.mean, dtype=x.dtype, device=x.device)
        shrink = variance / (variance + sigma.to(x)[:, None, None, None] ** 2)
        return mean + shrink * (x - mean)
