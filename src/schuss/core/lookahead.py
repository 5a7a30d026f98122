"""When parameters and slow weights sync, and how far the slow weights go (Lookahead)."""

from __future__ import annotations

from typing import NamedTuple


class SlowWeights(NamedTuple):
    """Parameters and slow weights sync after every ``k``-th step, counted from step number ``start`` on.

    ``alpha``: the share of their way to the parameters that the slow weights go in a sync.
    """

    k: int
    alpha: float
    start: int

    def syncs_after(self, steps: int) -> bool:
        """Return whether step ``steps + 1`` is followed by a sync."""
        return (steps + 1 - self.start) % self.k == 0

    def phase(self, steps: int) -> int:
        """Return how many of ``steps`` steps have been made since the last sync."""
        return (steps - self.start) % self.k
