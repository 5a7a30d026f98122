"""Time several ways of doing the same in one process, turn by turn."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BATCH = 8e-3
"""Seconds a batch of calls should last at least: long against the clock and a late wake-up."""

LONG = 8 * BATCH
"""Seconds from which a single call is measured in fewer rounds."""


@dataclass
class Contender:
    """One way of doing it, and what its calls took: seconds a call, one sample a round."""

    name: str
    call: Callable[[], object]
    samples: list[float] = field(default_factory=list)
    calls: int = 1

    def batch(self) -> float:
        """Time one batch of calls; return the seconds of one call."""
        call, repeats = self.call, range(self.calls)
        start = time.perf_counter()
        for _ in repeats:
            call()
        return (time.perf_counter() - start) / self.calls

    def calibrate(self) -> float:
        """Set the number of calls in a batch; return the seconds that a batch takes."""
        self.calls = 1
        while (took := self.batch() * self.calls) < BATCH:
            self.calls *= max(2, min(10, round(BATCH / max(took, 1e-9))))
        return took

    def summary(self) -> dict[str, float]:
        """Return median, minimum and quartiles of the samples, in seconds."""
        first, median, third = quartiles(self.samples)
        return {
            "median_s": median,
            "min_s": min(self.samples),
            "q1_s": first,
            "q3_s": third,
            "rounds": len(self.samples),
            "calls": self.calls,
        }


def quartiles(samples: Sequence[float]) -> tuple[float, float, float]:
    """Return the first quartile, the median and the third quartile."""
    if len(samples) < 2:
        return (samples[0],) * 3
    first, median, third = statistics.quantiles(samples, n=4, method="inclusive")
    return first, median, third


def interleave(contenders: Sequence[Contender], rounds: int, progress: Callable[[int], None] | None = None) -> None:
    """Take ``rounds`` samples of every contender, turn by turn, another one first in every round.

    A contender whose batch is :data:`LONG` sits most rounds out; it still gets three, or all if there are fewer.
    """
    every = {}
    for contender in contenders:
        slow = contender.calibrate() >= LONG
        every[contender.name] = max(1, rounds // max(3, rounds // 5)) if slow else 1
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(rounds):
            first = number % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                if number % every[contender.name] == 0:
                    contender.samples.append(contender.batch())
            if progress is not None:
                progress(number + 1)
    finally:
        if collecting:
            gc.enable()
