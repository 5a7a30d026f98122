"""The table of what runs between the two passes of a step: the measure pass and the update pass.

It has a row of 64-bit integers for every tensor, then rows for the numbers that several tensors share:

    FINISH   address of the rule's compiled ``finish``; 0: the row has nothing to finish
    INTO     address of the shared sums that the tensor's sums are added to; 0: its numbers are its own
    AHEAD    the tensor's step minus the clock
    STEP     the tensor's step: written before ``finish`` is called
    BLOCKS   number of blocks whose sums MEASURED has
    SUMS     sums in a block
    MEASURED address of the first block's sums
    FOLDED   address of the tensor's sums, or of the shared sums
    SCALARS  address of the rule's float64 scalars, for the measure pass; ``finish`` replaces them for the update pass
    SINGLES  address of the same scalars in float32
    RUNNING  address of the running numbers: ``finish`` replaces them with those after the step

With this table a step is one call: nothing comes between the passes, and a tensor is updated while the caches hold what
the measure pass read of it. An int64 table of COLUMNS_OF_PORTIONS cuts the step into portions: spans and tensors (the
last ones excluded), and the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FINISH, INTO, AHEAD, STEP, BLOCKS, SUMS, MEASURED, FOLDED, SCALARS, SINGLES, RUNNING, COLUMNS = range(12)

COLUMNS_OF_PORTIONS = ("FIRST_SPAN", "LAST_SPAN", "FIRST_TENSOR", "LAST_TENSOR", "THREADS")

PORTION_BYTES = 16 << 20
"""Bytes of parameters, gradients and states in a portion: the last level of most caches holds them. (With a last level
of 32 MiB, 4 to 24 MiB take the same time where memory is the limit, and 16 to 32 where it is not.)"""

CHUNK = 16 * 1024
"""Maximum of elements in a row of the chunk table, so that a portion has rows for every thread."""


class SharedRow(NamedTuple):
    """Tensors that have the same numbers, and so share one ``finish``.

    ``members``: numbers of the tensors. ``ahead``: their step minus the clock. ``running``: the running numbers before
    the next step, empty where the rule has none. ``group``: number of the parameter group; where sums are over all
    tensors, those of a group are added together.
    """

    members: list[int]
    ahead: int
    running: tuple[float, ...]
    group: int


class TwoPassTable:
    """The rows, and the numbers that they point to.

    ``finishers``: for every tensor the address of ``finish``, or 0. ``shared``: for every tensor whether its sums are
    over all tensors. ``sums``, ``running``: the maximum that a rule has of these numbers.
    """

    def __init__(self, finishers: Sequence[int], shared: Sequence[bool], sums: int, running: int) -> None:
        self._finishers, self._shared = finishers, shared
        self._tensors = len(finishers)
        count = self._tensors + sum(shared)
        self.rows = np.zeros((count, COLUMNS), np.int64)
        self.folded = np.zeros((count, max(1, sums)))
        self.running = np.zeros((count, max(1, running)))
        self.rows[:, RUNNING] = _row_addresses(self.running)

    def begin(self, shared_rows: Sequence[SharedRow]) -> list[int]:
        """Finish these tensors from the next step on, and no others. Return the number of the row of each."""
        rows, sums = self.rows, _row_addresses(self.folded)
        rows[:, FINISH] = rows[:, INTO] = 0
        rows[:, FOLDED] = sums
        begun: list[int] = []
        groups: dict[int, int] = {}
        free = self._tensors
        for members, ahead, running, group in shared_rows:
            row = first = members[0]
            if self._shared[first]:
                row, free = free, free + 1
                rows[members, INTO] = rows[row, FOLDED] = groups.setdefault(group, int(sums[row]))
                for column in (SUMS, SCALARS, SINGLES):
                    rows[row, column] = rows[first, column]
            rows[row, FINISH], rows[row, AHEAD] = self._finishers[first], ahead
            self.running[row, : len(running)] = running
            begun.append(row)
        return begun

    def running_of(self, row: int, cls: Any) -> Any:
        """Return the running numbers that a row has now, as the namedtuple class ``cls``."""
        return cls._make(self.running[row, : len(cls._fields)].tolist())


def _row_addresses(array: np.ndarray) -> np.ndarray:
    """Return the address of every row of an array."""
    return int(array.ctypes.data) + np.arange(len(array)) * array.strides[0]


def portions(sizes: Sequence[int]) -> list[int]:
    """Cut neighbouring tensors of ``sizes`` bytes into portions.

    Return the number of each portion's first tensor, then the number of tensors. A portion has at most PORTION_BYTES
    bytes, or is one tensor.
    """
    starts, held = [0], 0
    for number, size in enumerate(sizes):
        if held and held + size > PORTION_BYTES:
            starts.append(number)
            held = 0
        held += size
    return [*starts, len(sizes)]
