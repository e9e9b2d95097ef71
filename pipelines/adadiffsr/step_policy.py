"""The codebook: from a region's information gain to how many base steps it may skip.

Reference: AdaDiffSR (ECCV 2024, arXiv 2410.17752), dynamic timestep sampling.

| paper              | here               | meaning                                               |
|--------------------|--------------------|-------------------------------------------------------|
| tau = 5e-3         | threshold          | of 200 steps 1/200: gain of an average base step      |
| 5, 10, 15, 20      | skip 1, 2, 3, 4    | intervals of 1000 timesteps on a grid of 200 steps    |
| stable             | "stable"           | still changing, sharpness settled: long intervals     |
| growth             | "growth"           | getting sharper: short intervals                      |
| saturated          | "saturated"        | loses detail: keep the best prediction and leave      |
| I_i                | tanh(g)            | g: gain per base step, `information_gain`             |

Intervals are read as multiples of any base grid of N steps, and the threshold as 1 / N on it
(times threshold / 5e-3): on 200 uniform steps this is the paper's.

mode "paper": the published classes. In the first half (timestep above T / 2) only the
full-reference gain is valid: skip 1 from 2 tau, 2 from tau, 3 from tau / 2, else 4. Later: growth
(g^N >= tau) takes 1 where g^F >= tau, else 2; stable takes 3 where g^F >= tau, else 4; saturated
takes 1.

mode "error", ours: a region loses m times a base step's error per step when it skips m, so

    m = floor(q (loss of a hard region's whole run / N) / (loss of its next base step)),

between 1 and `max_skip`, and at most 2 in growth: error is spent where it costs least.

Where the paper is silent: a region slows down at once and speeds up by one multiple at a time (in
"paper" after two equal votes); its first two evaluations skip nothing, since no gain is known; no
skip passes the last node; a region leaves after two falling evaluations in a row with a noise level
of 0.35 or less that lie more than 2 tau below its best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..options import Options, option
from .information_gain import Spans

THRESHOLD = 5e-3
INTERVALS = (5, 10, 15, 20)  # of 1000 timesteps
FEWEST_STEPS = 10  # below it there is nothing to skip
BUDGETS = {"high": 0.8, "balanced": 1.6, "fast": 3.2, "draft": 6.4}  # q
LEAVE_BELOW = 0.35  # noise level, standard deviation in state units
PATIENCE = 2
KINDS = ("growth", "stable", "saturated")


@dataclass
class History:
    """What the policy remembers of one region.

    skip: the multiple it last took. votes: evaluations in a row that asked for a longer one.
    falling: evaluations in a row that lost detail. quality, best: R^N against the first evaluation,
    now and at its best in the second half.
    """

    evaluations: int = 0
    skip: int = 1
    votes: int = 0
    falling: int = 0
    quality: float = 0.0
    best: float = -math.inf


@dataclass(frozen=True)
class Place:
    """Where on the base grid a region was evaluated.

    sigma: the noise level there. log_step: ln(sigma / sigma of the next node). late: whether it is
    in the second half of the model's timesteps. steps: base steps since its evaluation before.
    """

    sigma: float
    log_step: float
    late: bool
    steps: int


@dataclass(frozen=True)
class Verdict:
    """skip: base steps to the next evaluation. leave: done, with its best prediction. best: this
    prediction is the best so far of the second half."""

    kind: str
    skip: int
    leave: bool
    best: bool


@dataclass(frozen=True)
class StepPolicy(Options):
    """How many evaluations each region gets. `spans`: a calibration, `calibration.calibrate`."""

    mode: str = option(
        "error",
        "'error' skips where a step's local error is small against that of a hard region; 'paper' "
        "is AdaDiffSR's table of stable, growth and saturated regions; 'every step' skips nothing.",
        choices=("error", "paper", "every step"),
    )
    quality: str = option(
        "balanced",
        "For 'error': how much error skipping may add, from 'high' (0.8 of a hard region's) to "
        "'draft' (6.4).",
        choices=tuple(BUDGETS),
    )
    threshold: float = option(
        THRESHOLD,
        "The paper's tau: the gain of an average step. 0.005 is neutral; twice as much skips twice "
        "as readily.",
        min=1e-4,
        max=0.1,
        step=0.0005,
    )
    max_skip: int = option(
        4,
        "The longest interval as a multiple of a base step. 1, 2, 3 and 4 are the paper's 5, 10, "
        "15 and 20 of 1000 timesteps where the base grid has 200 steps.",
        min=1,
        max=4,
    )
    early_exit: bool = option(
        False,
        "A region whose finest detail falls clearly in the last steps stops there and keeps its "
        "sharpest prediction (the paper's saturated regions). With the built-in prior it costs "
        "0.2 dB: there what falls is noise.",
    )
    adaptive_start: bool = option(
        False,
        "Regions without detail start at start_sigma_easy and skip everything above. Not in the "
        "paper; the saving that survives good solvers.",
    )
    start_sigma_easy: float = option(
        0.1,
        "For adaptive_start: noise level at which easy regions begin, a standard deviation in the "
        "prior's units (-1 to 1 for pixels).",
        min=0.005,
        max=100.0,
        step=0.005,
        advanced=True,
    )
    spans: Spans | None = None

    @property
    def skips(self) -> bool:
        """Whether it may skip a step at all."""
        return self.mode != "every step" and self.max_skip > 1

    def check(self, sigmas: tuple[float, ...]) -> None:
        """Raise `ValueError` where it cannot serve the base grid `sigmas` (without the final 0)."""
        if self.skips and len(sigmas) < FEWEST_STEPS:
            raise ValueError(
                f"The run has {len(sigmas)} steps, too few to skip any; give {FEWEST_STEPS} or "
                "more, or choose mode 'every step' in Step Policy (adaptive_start still saves)."
            )
        if self.spans and self.spans.sigmas != sigmas:
            mine = self.spans.sigmas
            raise ValueError(
                f"The policy was calibrated for {len(mine)} steps from noise level {mine[0]:.4g} "
                f"to {mine[-1]:.4g}, and the run has {len(sigmas)} from {sigmas[0]:.4g} to "
                f"{sigmas[-1]:.4g}; give both nodes the same steps, noise levels and spacing."
            )

    def decide(
        self, region: History, rise: float, sharper: float, at: Place, spans: Spans
    ) -> Verdict:
        """The next move of a region after an evaluation, which `region` then remembers.

        rise, sharper: g^F and g^N. spans: those of the run's base grid.
        """
        steps = len(spans.sigmas)
        tau = self.threshold / THRESHOLD / steps
        sharper = math.tanh(sharper)
        kind = self._kind(math.tanh(rise), sharper, at.late, tau)
        region.evaluations += 1
        region.quality += sharper * at.steps
        best = at.late and region.quality > region.best
        region.best = max(region.best, region.quality) if at.late else region.best
        region.falling = region.falling + 1 if kind == "saturated" else 0
        lost = region.best - region.quality
        leave = self.early_exit and at.late and at.sigma <= LEAVE_BELOW
        leave = leave and region.falling >= PATIENCE and lost > 2 * tau
        wanted = self._wanted(kind, rise, at, tau, spans) if self.skips else 1
        return Verdict(kind, self._steady(region, min(wanted, self.max_skip)), leave, best)

    @staticmethod
    def _kind(rise: float, sharper: float, late: bool, tau: float) -> str:
        """The class: from sharpness where it is valid, before that from change alone."""
        if not late:
            return "growth" if rise >= tau else "stable"
        if sharper >= tau:
            return "growth"
        return "saturated" if sharper <= -tau else "stable"

    def _wanted(self, kind: str, rise: float, at: Place, tau: float, spans: Spans) -> int:
        """The multiple that the gains ask for."""
        if self.mode == "error":
            loss = at.log_step * rise / 2
            allowed = BUDGETS[self.quality] * tau * spans.loss
            most = 2 if at.late and kind == "growth" else len(INTERVALS)
            return most if loss * most <= allowed else max(1, int(allowed / loss))
        gain = math.tanh(rise)
        if not at.late:
            return 1 + sum(gain < t for t in (2 * tau, tau, tau / 2))
        much = gain >= tau
        return {"growth": 1 if much else 2, "stable": 3 if much else 4, "saturated": 1}[kind]

    def _steady(self, region: History, wanted: int) -> int:
        """`wanted` after the hysteresis: slower at once, faster one multiple at a time."""
        if region.evaluations <= 2:
            wanted = 1
        region.votes = region.votes + 1 if wanted > region.skip else 0
        if wanted <= region.skip:
            region.skip = wanted
        elif region.votes >= (2 if self.mode == "paper" else 1):
            region.skip, region.votes = region.skip + 1, 0
        return region.skip
