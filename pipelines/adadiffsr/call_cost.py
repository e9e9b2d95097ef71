"""What a network call costs by its tiles: a + b n seconds, told by the calls of a run.

On a card a is what it takes to launch the call, and b the arithmetic of a tile (33 and 0.9 ms on an
H100 for a network of Stable Diffusion's size that is not played back). Where a is large calls shall
have as many tiles as fit; where it is not, more tiles only take more memory.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn

FIRST = 2  # calls of a size that do not count: constants are made, then the work is recorded
PROBES = (1, 4)  # tiles of the calls that automatic runs begin with, to know a and b
SMALL = 0.05  # of a tile's seconds: what is left of a for each, where more tiles gain nothing


@dataclass(eq=False)
class CallCost:
    """Seconds of calls of one network with tiles of one size. best: tiles -> (how many calls, the
    seconds of the quickest one that counts)."""

    best: dict[int, tuple[int, float]] = field(default_factory=dict)

    def add(self, tiles: int, seconds: float) -> None:
        """A call took so long."""
        count, quickest = self.best.get(tiles, (0, float("inf")))
        self.best[tiles] = count + 1, min(quickest, seconds) if count >= FIRST else quickest

    @property
    def probe(self) -> int | None:
        """How many tiles the next call shall have, so that a and b are known; None where they
        are."""
        if self.line:
            return None
        return next(n for n in PROBES if self.best.get(n, (0, 0.0))[0] <= FIRST)

    @property
    def line(self) -> tuple[float, float] | None:
        """a and b, the least squares over all sizes; None where fewer than two are known."""
        known = [(n, seconds) for n, (count, seconds) in self.best.items() if count > FIRST]
        if len(known) < 2:
            return None
        mean = sum(n for n, _ in known) / len(known)
        level = sum(seconds for _, seconds in known) / len(known)
        spread = sum((n - mean) ** 2 for n, _ in known)
        b = max(0.0, sum((n - mean) * (seconds - level) for n, seconds in known) / spread)
        return max(0.0, level - b * mean), b

    @property
    def enough(self) -> int | None:
        """The power of two from which more tiles in a call gain nothing; None where it is not
        known, or all do."""
        if not self.line or self.line[1] == 0:
            return None
        a, b = self.line
        return 1 << max(0, int(a / (SMALL * b)).bit_length())

    def of(self, calls: int, tiles: int) -> float | None:
        """Seconds of so many calls with so many tiles in all; None where it is not known."""
        return calls * self.line[0] + tiles * self.line[1] if self.line else None


COSTS: WeakKeyDictionary[nn.Module, dict[Hashable, CallCost]] = WeakKeyDictionary()


def cost_of(network: object, size: Hashable) -> CallCost:
    """What is known of calls of a network with tiles of this size, measured once and kept for as
    long as the network; a new one where it is no `nn.Module`."""
    if not isinstance(network, nn.Module):
        return CallCost()
    return COSTS.setdefault(network, {}).setdefault(size, CallCost())


def fewest(steps: int, tiles: int, most: int) -> int:
    """Calls that so many steps of so many tiles take, none left out, with at most so many each."""
    return max(steps, -(-steps * tiles // most))
