"""What is between the two passes of a step, a row of 64-bit integers for every tensor, and then one for every number
that is of several tensors.

    FINISH   address of the rule's compiled ``finish``; 0: there is nothing to finish here
    INTO     address of the sums that the tensor's are added to; 0: its numbers are its own
    AHEAD    how far the tensor's step is ahead of the clock
    STEP     the tensor's step: written before ``finish`` is called
    BLOCKS   blocks whose sums MEASURED has
    SUMS     sums in a block
    MEASURED address of the first block's sums
    FOLDED   address of the tensor's sums, or those of several
    SCALARS  address of the rule's scalars in float64, as it measures with them: replaced by those it moves with
    SINGLES  the same in float32
    RUNNING  address of the running numbers: replaced by those after the step

With them a step is one call: nothing can come between the passes, and a tensor is moved while the caches have what was
read of it. A table of COLUMNS_OF_PORTIONS (int64) says in what portions: spans and tensors, the last ones excluded, and
threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FINISH, INTO, AHEAD, STEP, BLOCKS, SUMS, MEASURED, FOLDED, SCALARS, SINGLES, RUNNING, COLUMNS = range(12)

COLUMNS_OF_PORTIONS = ("FIRST_SPAN", "LAST_SPAN", "FIRST_TENSOR", "LAST_TENSOR", "THREADS")

PORTION_BYTES = 16 << 20
"""Bytes of parameters, gradients and states in a portion: the last level of most caches holds them. (Of a last level
of 32 MiB 4 to 24 give the same time where memory is what limits it, and 16 to 32 where it is not.)"""

CHUNK = 16 * 1024
"""Elements in a row at most, so that there are some for every thread in a portion."""


class SharedRow(NamedTuple):
    """Tensors with the same numbers. ``ahead``: how far their step is ahead of the clock. ``running``: the running
    numbers before the next step, empty where there are none. ``group``: their sums are over all tensors of it."""

    members: list[int]
    ahead: int
    running: tuple[float, ...]
    group: int


class TwoPassTable:
    """The rows, and the numbers that they point to.

    ``finishers``: for every tensor the address of ``finish``, or 0. ``shared``: whether its numbers are of all tensors.
    ``sums``, ``running``: the most that a rule has.
    """

    def __init__(self, finishers: Sequence[int], shared: Sequence[bool], sums: int, running: int) -> None:
        self._finishers, self._shared = finishers, shared
        self._tensors = len(finishers)
        count = self._tensors + sum(shared)
        self.rows = np.zeros((count, COLUMNS), np.int64)
        self.folded = np.zeros((count, max(1, sums)))
        self.running = np.zeros((count, max(1, running)))
        self.rows[:, RUNNING] = _addresses(self.running)

    def begin(self, lent: Sequence[SharedRow]) -> list[int]:
        """Take over these tensors from the next step on, and no others; the row of each."""
        rows, places = self.rows, _addresses(self.folded)
        rows[:, FINISH] = rows[:, INTO] = 0
        rows[:, FOLDED] = places
        begun: list[int] = []
        groups: dict[int, int] = {}
        free = self._tensors
        for members, ahead, running, group in lent:
            row = first = members[0]
            if self._shared[first]:
                row, free = free, free + 1
                rows[members, INTO] = rows[row, FOLDED] = groups.setdefault(group, int(places[row]))
                for column in (SUMS, SCALARS, SINGLES):
                    rows[row, column] = rows[first, column]
            rows[row, FINISH], rows[row, AHEAD] = self._finishers[first], ahead
            self.running[row, : len(running)] = running
            begun.append(row)
        return begun

    def ran(self, row: int, cls: Any) -> Any:
        """The running numbers of a row now, of the namedtuple class ``cls``."""
        return cls._make(self.running[row, : len(cls._fields)].tolist())


def _addresses(numbers: np.ndarray) -> np.ndarray:
    """Those of an array's rows."""
    return int(numbers.ctypes.data) + np.arange(len(numbers)) * numbers.strides[0]


def portions(sizes: Sequence[int]) -> list[int]:
    """Where portions of neighbouring tensors begin, and their number last. ``sizes``: bytes of each.

    A portion has at most PORTION_BYTES bytes, or is one tensor.
    """
    starts, held = [0], 0
    for number, size in enumerate(sizes):
        if held and held + size > PORTION_BYTES:
            starts.append(number)
            held = 0
        held += size
    return [*starts, len(sizes)]
