"""What is between the two passes of a step, a row of 64-bit integers for every tensor.

    FINISH   address of the rule's compiled ``finish``; 0: the rule has no measure, or the tensor no gradient
    AHEAD    how far the tensor's step is ahead of the clock
    STEP     the tensor's step: written before ``finish`` is called
    BLOCKS   blocks whose sums MEASURED has
    SUMS     sums in a block
    MEASURED address of the first block's sums
    FOLDED   address of the tensor's sums
    SCALARS  address of the rule's scalars in float64, as it measures with them: replaced by those it moves with
    SINGLES  the same in float32
    RUNNING  address of the running numbers: replaced by those after the step

With them a step is one call: nothing can come between the passes, and a tensor is moved while the caches have what was
read of it. A table of COLUMNS_OF_PORTIONS (int64) says in what portions: spans and tensors, the last ones excluded, and
threads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

FINISH, AHEAD, STEP, BLOCKS, SUMS, MEASURED, FOLDED, SCALARS, SINGLES, RUNNING, COLUMNS = range(11)

COLUMNS_OF_PORTIONS = ("FIRST_SPAN", "LAST_SPAN", "FIRST_TENSOR", "LAST_TENSOR", "THREADS")

PORTION_BYTES = 16 << 20
"""Bytes of parameters, gradients and states in a portion: the last level of most caches holds them. (Of a last level
of 32 MiB 4 to 24 give the same time where memory is what limits it, and 16 to 32 where it is not.)"""

CHUNK = 16 * 1024
"""Elements in a row at most, so that there are some for every thread in a portion."""


class Turns:
    """The rows, and the numbers that they point to.

    ``finishers``: for every tensor the address of ``finish``, or 0. ``sums``, ``running``: the most that a rule has.
    """

    def __init__(self, finishers: Sequence[int], sums: int, running: int) -> None:
        tensors = len(finishers)
        self.rows = np.zeros((tensors, COLUMNS), np.int64)
        self.folded = np.zeros((tensors, max(1, sums)))
        self.running = np.zeros((tensors, max(1, running)))
        self._finishers = finishers
        for column, numbers in ((FOLDED, self.folded), (RUNNING, self.running)):
            self.rows[:, column] = int(numbers.ctypes.data) + np.arange(tensors) * numbers.strides[0]

    def begin(self, ahead: Mapping[int, int], running: Mapping[int, tuple[float, ...]]) -> None:
        """Set how far tensors are ahead of the clock (those that are not named have no gradient in the steps to come),
        and running numbers before the next step."""
        self.rows[:, FINISH] = [address if number in ahead else 0 for number, address in enumerate(self._finishers)]
        for number, steps in ahead.items():
            self.rows[number, AHEAD] = steps
        for number, values in running.items():
            self.running[number, : len(values)] = values

    def ran(self, number: int, cls: Any) -> Any:
        """The running numbers of a tensor now, of the namedtuple class ``cls``."""
        return cls._make(self.running[number, : len(cls._fields)].tolist())


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
