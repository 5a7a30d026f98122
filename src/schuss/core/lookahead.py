"""Slow weights: when parameters meet them, and how far these go."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SlowWeights:
    """Parameters meet their slow weights after every ``every``-th step from step number ``since`` on."""

    every: int
    share: float
    since: int

    def meets(self, steps: int) -> bool:
        """Whether they do after the step that follows so many."""
        return (steps + 1 - self.since) % self.every == 0

    def phase(self, steps: int) -> int:
        """Steps since they last did."""
        return (steps - self.since) % self.every
