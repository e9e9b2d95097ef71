"""The few timesteps of an inversion, for Stable Diffusion's 1000 (InvSR, arXiv 2412.09013)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from ..options import Options, option

PUBLISHED = {  # steps -> timesteps of the official code, 1 .. 1000, the noisiest first
    1: (200,),
    2: (200, 100),
    3: (200, 100, 50),
    4: (200, 150, 100, 50),
    5: (250, 200, 150, 100, 50),
}
TRAINED_STARTS = (250, 200, 150, 100)
LARGEST_START = max(TRAINED_STARTS)


@dataclass(frozen=True)
class InversionSteps(Options):
    """How many steps, from where.

    With `timesteps` empty and `start_timestep` 0 up to 5 steps are the published ones, and more are
    the official demo's: floor(250 (N - i) / N), i = 0 .. N - 1. Another start gives
    floor(start (N - i) / N).
    """

    steps: int = option(
        1,
        "Sampling steps. 1 to 5 are published; more steps add detail and cost fidelity, and on "
        "noisy or JPEG pictures they amplify the noise, so take 1 there.",
        min=1,
        max=LARGEST_START,
    )
    start_timestep: int = option(
        0,
        "Where the run starts: 100 keeps fidelity, 250 invents detail (good for blur). 0 is the "
        "published start, 200 for 1 to 4 steps and 250 for more. The predictor was trained for "
        "100, 150, 200 and 250.",
        min=0,
        max=LARGEST_START,
    )
    timesteps: str = option(
        "",
        "A falling list of timesteps such as '200, 100, 50', which then settles everything. Its "
        "first should be 100, 150, 200 or 250.",
    )

    def times(self) -> tuple[int, ...]:
        """The timesteps, falling, in 1 .. 250.

        Raises `ValueError` for what is no falling list, or starts above 250.
        """
        times = self.listed() or self.spread()
        said = ", ".join(map(str, times))
        falling = all(a > b for a, b in pairwise(times))
        if not falling or times[-1] < 1:
            raise ValueError(
                f"The timesteps are {said}; give whole numbers that fall and end at 1 or more, "
                "such as 200, 100, 50."
            )
        if times[0] > LARGEST_START:
            raise ValueError(
                f"The timesteps {said} start above {LARGEST_START}, with more noise than noise "
                f"predictors were trained for; start at {LARGEST_START} or below."
            )
        return times

    def listed(self) -> tuple[int, ...]:
        """What `timesteps` lists, () for nothing. Raises `ValueError` for no whole numbers."""
        if not self.timesteps.strip():
            return ()
        try:
            return tuple(int(part) for part in self.timesteps.split(","))
        except ValueError:
            raise ValueError(
                f"timesteps is {self.timesteps!r}; write whole numbers between commas, such as "
                "200, 100, 50."
            ) from None

    def spread(self) -> tuple[int, ...]:
        """The published timesteps, or even ones from the start."""
        if self.start_timestep == 0 and self.steps in PUBLISHED:
            return PUBLISHED[self.steps]
        start = self.start_timestep or LARGEST_START
        return tuple(start * (self.steps - i) // self.steps for i in range(self.steps))


def warning(start: int) -> str:
    """A sentence about a start the published predictors were not trained for; "" for the others."""
    if start in TRAINED_STARTS:
        return ""
    return (
        f"The noise predictor was not trained to start at timestep {start}; 100, 150, 200 and 250 "
        "are safe."
    )
