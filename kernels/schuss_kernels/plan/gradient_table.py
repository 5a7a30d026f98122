"""The gradient table: what the gradients of the last step looked like. Those of the next step are compared with it.

A step brings dozens of new arrays, mostly of the same dtype, shape and strides as before, at other addresses. Compiled
code (``native/gradients.c``) compares all of them with this table in a few microseconds, and writes the addresses of
those that moved into the chunk table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..storage.memory import Memory
from .tensor import Tensor

DESCR, FORMAT, NDIM, SHAPE, DATA, FIRST, LAST, ADVANCE, LOW, HIGH = range(10)
COLUMNS = 10
"""Columns of the table, one row for each tensor:

    DESCR    address of the numpy dtype object
    FORMAT   the dtype's character in the buffer protocol
    NDIM     number of axes
    SHAPE    index of the shape, followed by the strides, in ``shapes``
    DATA     the gradient's address in the chunk table; 0: the tensor has no gradient, -1: not known yet
    FIRST    number of the tensor's first row in the chunk table
    LAST     number of the row after its last one
    ADVANCE  bytes from one row's gradient to the next one's; 0 for a strided tensor
    LOW      the gradient's first byte, relative to its address
    HIGH     the byte after its last one, relative to its address
"""


class GradientTable:
    """The gradient table of one plan.

    Attributes
    ----------
    table
        int64 (tensors, COLUMNS).
    addresses
        Its column DATA: the addresses of the gradients that the chunk table has now.
    shapes
        int64: for every tensor its shape in elements, then its gradient's strides in bytes.
    intervals
        int64 (2, n): the memory of the parameters as sorted, disjoint intervals, first bytes and ends. A gradient that
        touches one is left to Python.
    """

    def __init__(self, tensors: Sequence[Tensor], first_row: np.ndarray, strided: Sequence[bool], chunk: int) -> None:
        self.table = np.zeros((len(tensors), COLUMNS), np.int64)
        self.addresses = self.table[:, DATA]
        self._dtypes = []  # keeps them alive: DESCR is their address
        shapes: list[int] = []
        rows: dict[tuple[Any, ...], tuple[int, ...]] = {}  # of the forms that there are
        found = []
        for tensor in tensors:
            form = tensor.gradient_dtype, tensor.parameter.shape, tensor.gradient_strides
            if form not in rows:
                dtype, shape, strides = np.dtype(form[0]), form[1], form[2]
                self._dtypes.append(dtype)
                extent = Memory(None, 0, dtype, shape, strides).extent()
                rows[form] = id(dtype), ord(dtype.char), len(shape), len(shapes), dtype.itemsize, *extent
                shapes += [*shape, *strides]
            found.append(rows[form])
        columns = np.array(found, np.int64).reshape(-1, 7).T
        self.table[:, [DESCR, FORMAT, NDIM, SHAPE, ADVANCE, LOW, HIGH]] = columns.T
        self.table[:, ADVANCE] *= np.where(strided, 0, chunk)
        self.table[:, FIRST], self.table[:, LAST] = first_row[:-1], first_row[1:]
        self.addresses[:] = -1
        self.shapes = np.array(shapes, np.int64)
        self.intervals = _disjoint([(t.parameter.address, *t.parameter.extent()) for t in tensors])

    def overlaps_parameters(self, addresses: np.ndarray, tensors: np.ndarray) -> bool:
        """Return whether a gradient shares memory with a parameter. ``addresses``: those of the gradients of
        ``tensors``, the numbers of some tensors; both int64."""
        starts, ends = self.intervals
        first = np.searchsorted(ends, addresses + self.table[tensors, LOW], side="right")
        starts = np.append(starts, np.iinfo(np.int64).max)
        return bool((starts[first] < addresses + self.table[tensors, HIGH]).any())


def _disjoint(places: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """Merge intervals that overlap. Return int64 (2, n): the first bytes in ascending order, and the ends.

    ``places``: addresses, and the first byte and the one after the last relative to each.
    """
    address, low, high = np.array(places, np.int64).reshape(-1, 3).T
    order = np.flatnonzero(high > low)
    order = order[np.argsort((address + low)[order])]
    lows, reach = (address + low)[order], np.maximum.accumulate((address + high)[order])
    first = np.append(True, lows[1:] >= reach[:-1])[: len(lows)]
    return np.stack([lows[first], reach[np.append(first[1:], True)[: len(lows)]]])
