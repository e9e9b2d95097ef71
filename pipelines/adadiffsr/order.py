"""In which order the regions of a run are evaluated.

A region is a chain of evaluations, and a call holds so many chains' next ones; no order needs fewer
calls than evaluations / most, or than the longest chain has. The least advanced first needs no more
than that wherever it was counted; the longest way first, guessed from each region's last skip,
needed up to two calls more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence


class Order:
    """The regions on their way, the least advanced first, and those that wait where all meet.

    nodes: where each region begins. stops: nodes at which every region waits for the others.
    side: node -> a number; no batch holds regions of two.
    """

    def __init__(
        self, nodes: Sequence[int], stops: frozenset[int], side: Callable[[int], int]
    ) -> None:
        self.stops, self.side = stops, side
        self.heap = [(node, k) for k, node in enumerate(nodes)]
        self.waiting: dict[int, int] = {}
        heapq.heapify(self.heap)

    def take(self, most: int) -> list[int]:
        """The next regions, at most so many; none at the end."""
        chosen, others, side = [], [], None
        while self.heap and len(chosen) < most:
            node, k = heapq.heappop(self.heap)
            side = self.side(node) if side is None else side
            (chosen if self.side(node) == side else others).append((node, k))
        for entry in others:
            heapq.heappush(self.heap, entry)
        return [k for _, k in chosen]

    def push(self, k: int, node: int) -> None:
        """Region k may be taken at this node."""
        heapq.heappush(self.heap, (node, k))

    def put(self, k: int, node: int) -> None:
        """Region k is at this node now."""
        if node in self.stops:
            self.waiting[k] = node
        else:
            self.push(k, node)

    def meeting(self) -> tuple[int, list[int]] | None:
        """The node at which all that are not further wait, and who they are; they go on then."""
        if self.heap or not self.waiting:
            return None
        node = min(self.waiting.values())
        met = sorted(k for k, n in self.waiting.items() if n == node)
        self.heap = [(node, k) for k in met]
        self.waiting = {k: n for k, n in self.waiting.items() if n != node}
        return node, met
