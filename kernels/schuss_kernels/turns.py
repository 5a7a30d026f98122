"""What is between the two passes of a step, a row of 64-bit integers for every tensor.

    FINISH   address of the rule's compiled ``finish``; 0: the tensor's rule has no measure
    STEP     the tensor's step; 0: it has no gradient in this one
    BLOCKS   blocks whose sums MEASURED has
    SUMS     sums in a block
    MEASURED address of the first block's sums
    FOLDED   address of the tensor's sums
    SCALARS  address of the rule's scalars in float64, as it measures with them: replaced by those it moves with
    SINGLES  the same in float32
    RUNNING  address of the running numbers: replaced by those after the step

With them a step is one call: nothing can come between the passes, and a tensor is moved while the caches have what was
read of it. ``batches`` (int64, five columns) says in what portions: spans from and to, tensors from and to, threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FINISH, STEP, BLOCKS, SUMS, MEASURED, FOLDED, SCALARS, SINGLES, RUNNING, COLUMNS = range(10)

BATCH = 16 << 20
"""Bytes of parameters, gradients and states in a portion: the last level of most caches holds them. (Of a last level
of 32 MiB 4 to 24 give the same time where memory is what limits it, and 16 to 32 where it is not.)"""

CHUNK = 16 * 1024
"""Elements in a row at most, so that there are some for every thread in a portion."""


class Turns:
    """The rows, and the numbers that they point to. ``running``: float64 (tensors, most running numbers)."""

    def __init__(self, tensors: int, sums: int, running: int) -> None:
        self.rows = np.zeros((tensors, COLUMNS), np.int64)
        self.folded = np.zeros((tensors, max(1, sums)))
        self.running = np.zeros((tensors, max(1, running)))
        self._ran: list[list[float]] | None = None  # as a list, once it is asked for
        for column, numbers in ((FOLDED, self.folded), (RUNNING, self.running)):
            self.rows[:, column] = int(numbers.ctypes.data) + np.arange(tensors) * numbers.strides[0]

    def begin(self, steps: Sequence[int], running: Mapping[int, tuple[float, ...]]) -> None:
        """Set the steps of all tensors, and running numbers of those that have none here yet; the others go on."""
        self._ran = None
        self.rows[:, STEP] = steps
        for number, values in running.items():
            self.running[number, : len(values)] = values

    def ran(self, number: int, cls: Any) -> Any:
        """The running numbers of a tensor after the step, of the namedtuple class ``cls``."""
        if self._ran is None:
            self._ran = self.running.tolist()
        values = self._ran[number]
        return cls._make(values if len(values) == len(cls._fields) else values[: len(cls._fields)])


def portions(sizes: Sequence[int]) -> list[int]:
    """Where portions of neighbouring tensors begin, and their number last. ``sizes``: bytes of each.

    A portion has at most BATCH bytes, or is one tensor.
    """
    starts, held = [0], 0
    for number, size in enumerate(sizes):
        if held and held + size > BATCH:
            starts.append(number)
            held = 0
        held += size
    return [*starts, len(sizes)]
