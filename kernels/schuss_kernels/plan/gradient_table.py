"""The gradient table: what the gradients of the last step looked like. Those of the next step are compared with it.

A step brings dozens of new arrays, mostly of the same dtype, shape and strides as before, at other addresses. Compiled
code (``native/gradients.c``) compares all of them with this table in a few microseconds, and writes the addresses of
those that moved into the chunk table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    shapes
        int64: for every tensor its shape in elements, then its gradient's strides in bytes.
    intervals
        int64 (2, n): the memory of the parameters as sorted, disjoint intervals, first bytes and ends. A gradient that
        touches one is left to Python.
    """

    def __init__(self, tensors: Sequence[Tensor], first_row: np.ndarray, strided: Sequence[bool], chunk: int) -> None:
        self.table = np.zeros((len(tensors), COLUMNS), np.int64)
        self._dtypes = [np.dtype(t.gradient_dtype) for t in tensors]  # keeps them alive: DESCR is their address
        shapes: list[int] = []
        for row, tensor, dtype, first, last, is_strided in zip(
            self.table, tensors, self._dtypes, first_row[:-1], first_row[1:], strided, strict=True
        ):
            shape, strides = tensor.parameter.shape, tensor.gradient_strides
            low, high = Memory(None, 0, dtype, shape, strides).extent()
            advance = 0 if is_strided else chunk * dtype.itemsize
            row[:] = (id(dtype), ord(dtype.char), len(shape), len(shapes), -1, first, last, advance, low, high)
            shapes += [*shape, *strides]
        self.shapes = np.array(shapes, np.int64)
        self.intervals = _disjoint(
            (t.parameter.address + low, t.parameter.address + high)
            for t in tensors
            for low, high in [t.parameter.extent()]
            if high > low
        )

    def set_addresses(self, gradients: np.ndarray) -> None:
        """Store the addresses of the gradients that the chunk table has now: int64 (tensors)."""
        self.table[:, DATA] = gradients

    def overlaps_parameters(self, addresses: np.ndarray, tensors: np.ndarray) -> bool:
        """Return whether a gradient shares memory with a parameter. ``addresses``: those of the gradients of
        ``tensors``, the numbers of some tensors; both int64."""
        starts, ends = self.intervals
        first = np.searchsorted(ends, addresses + self.table[tensors, LOW], side="right")
        starts = np.append(starts, np.iinfo(np.int64).max)
        return bool((starts[first] < addresses + self.table[tensors, HIGH]).any())


def _disjoint(intervals: Iterable[tuple[int, int]]) -> np.ndarray:
    """Merge intervals that overlap. Return int64 (2, n): the first bytes in ascending order, and the ends."""
    merged: list[list[int]] = []
    for low, high in sorted(intervals):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return np.array(merged, np.int64).reshape(-1, 2).T.copy()
