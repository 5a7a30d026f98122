"""The two-pass table: what runs between the two passes of a step, the measure pass and the update pass.

It has a row of 64-bit integers for every tensor, then rows that several tensors share:

    FINISH    address of the rule's compiled ``finish``; 0: the row has none to call
    INTO      address of the shared sums to which the tensor's sums are added; 0: it shares none
    AHEAD     the tensor's step minus the clock (:attr:`.Engine.clock`)
    STEP      the tensor's step, which is written before ``finish`` is called
    BLOCKS    number of the tensor's reduction blocks
    SUMS      number of sums that the rule's measure has
    MEASURED  address of the first block's sums, float64 (BLOCKS, SUMS)
    FOLDED    address of the tensor's sums, or of the shared sums, float64 (SUMS)
    SCALARS64 address of the rule's scalars in float64: those of the measure pass, which ``finish`` replaces with those
              of the update pass
    SCALARS32 address of the same scalars in float32
    RUNNING   address of the rule's running numbers, float64, which ``finish`` replaces with those after the step

With this table both passes are one call into the C extension. The tensors go through it in portions: runs of
neighbouring tensors that are measured and then updated while the caches still hold them. An int64 table (portions,
COLUMNS_OF_PORTIONS) has their spans and tensors, the last ones excluded, and the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FINISH, INTO, AHEAD, STEP, BLOCKS, SUMS, MEASURED, FOLDED, SCALARS64, SCALARS32, RUNNING, COLUMNS = range(12)

COLUMNS_OF_PORTIONS = ("FIRST_SPAN", "LAST_SPAN", "FIRST_TENSOR", "LAST_TENSOR", "THREADS")

PORTION_BYTES = 16 << 20
"""Bytes of parameters, gradients and states in a portion: most processors' last-level cache holds them. (With 32 MiB of
cache, portions of 4 to 24 MiB take the same time where memory is the limit, and of 16 to 32 MiB where it is not.)"""

MAX_CHUNK = 16 * 1024
"""Maximum of elements in a row of the chunk table where there are portions: each then has rows for all threads."""


class SharedRow(NamedTuple):
    """Tensors that have the same step and the same running numbers, and share one call of ``finish``.

    ``members``: numbers of the tensors. ``ahead``: their step minus the clock. ``running``: the running numbers before
    the next step; empty where the rule has none. ``group``: number of the parameter group: where a rule's sums are over
    all tensors, those of one group are added together.
    """

    members: list[int]
    ahead: int
    running: tuple[float, ...]
    group: int


class TwoPassTable:
    """The two-pass table of one plan, and the arrays that it points into.

    Parameters
    ----------
    finishers
        For every tensor the address of its rule's compiled ``finish``; 0: the rule has none.
    shared
        For every tensor whether its sums are over all tensors.
    sums, running
        The greatest number of sums and of running numbers that a rule has.

    Attributes
    ----------
    rows
        int64 (rows, COLUMNS).
    folded
        float64 (rows, sums): what FOLDED and INTO point into.
    running
        float64 (rows, running numbers): what RUNNING points into.
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
        """Call ``finish`` for these tensors, and no others, from the next step on.

        Return for each element of ``shared_rows`` the number of the table row that it uses.
        """
        rows, sums = self.rows, _row_addresses(self.folded)
        rows[:, FINISH] = rows[:, INTO] = 0
        rows[:, FOLDED] = sums
        used: list[int] = []
        group_sums: dict[int, int] = {}  # the address of each group's sums
        free = self._tensors
        for members, ahead, running, group in shared_rows:
            row = first = members[0]
            if self._shared[first]:
                row, free = free, free + 1
                rows[members, INTO] = rows[row, FOLDED] = group_sums.setdefault(group, int(sums[row]))
                for column in (SUMS, SCALARS64, SCALARS32):
                    rows[row, column] = rows[first, column]
            rows[row, FINISH], rows[row, AHEAD] = self._finishers[first], ahead
            self.running[row, : len(running)] = running
            used.append(row)
        return used

    def running_of(self, row: int, cls: Any) -> Any:
        """Return the running numbers that a row has now, as the namedtuple class ``cls``."""
        return cls._make(self.running[row, : len(cls._fields)].tolist())


def _row_addresses(array: np.ndarray) -> np.ndarray:
    """Return the address of every row of an array."""
    return int(array.ctypes.data) + np.arange(len(array)) * array.strides[0]


def portions(sizes: Sequence[int]) -> list[int]:
    """Cut tensors of ``sizes`` bytes into portions of neighbouring tensors.

    Return the number of each portion's first tensor, then the number of tensors. A portion has at most PORTION_BYTES
    bytes, or is one tensor.
    """
    starts, portion_size = [0], 0
    for number, size in enumerate(sizes):
        if portion_size and portion_size + size > PORTION_BYTES:
            starts.append(number)
            portion_size = 0
        portion_size += size
    return [*starts, len(sizes)]
