"""What the gradients of the last step looked like: the table that the arrays of the next one are compared with.

A step has dozens of fresh arrays, mostly of the same dtype, shape and strides as before at another address. Compiled
code (``native/gradients.c``, :mod:`.headers`) compares all of them with this table in a few microseconds, and changes
the plan only for those that moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..storage.memory import Memory
from .tensor import Tensor

DESCR, FORMAT, NDIM, LAYOUT, DATA, FIRST, LAST, ADVANCE, LOW, HIGH = range(10)
COLUMNS = 10
"""One row a tensor: dtype object, its character in the buffer protocol, ndim, where its shape and strides stand in the
layouts, the address in the plan (0: no gradient), its rows, bytes from one row's gradient to the next, and the bytes
the gradient spans around its address."""


class GradientTable:
    """The table for one plan.

    ``table``: int64 (tensors, COLUMNS). ``layouts``: int64, for every tensor its shape, then its gradient's strides.
    ``intervals``: int64 (2, n), the first bytes and the ends of the disjoint byte intervals that the parameters occupy,
    sorted; a gradient that touches one is not as expected.
    """

    def __init__(self, tensors: Sequence[Tensor], first_row: np.ndarray, strided: Sequence[bool], chunk: int) -> None:
        self.table = np.zeros((len(tensors), COLUMNS), np.int64)
        self._dtypes = [np.dtype(t.gradient_dtype) for t in tensors]  # held: DESCR is their address
        layouts: list[int] = []
        for row, tensor, dtype, first, last, walked in zip(
            self.table, tensors, self._dtypes, first_row[:-1], first_row[1:], strided, strict=True
        ):
            shape, strides = tensor.parameter.shape, tensor.gradient_strides
            low, high = Memory(None, 0, dtype, shape, strides).extent()
            advance = 0 if walked else chunk * dtype.itemsize
            row[:] = (id(dtype), ord(dtype.char), len(shape), len(layouts), -1, first, last, advance, low, high)
            layouts += [*shape, *strides]
        self.layouts = np.array(layouts, np.int64)
        self.intervals = _disjoint(
            (t.parameter.address + low, t.parameter.address + high)
            for t in tensors
            for low, high in [t.parameter.extent()]
            if high > low
        )

    def place(self, gradients: np.ndarray) -> None:
        """The addresses that the plan holds now."""
        self.table[:, DATA] = gradients


def _disjoint(spans: Iterable[tuple[int, int]]) -> np.ndarray:
    merged: list[list[int]] = []
    for low, high in sorted(spans):
        if merged and low < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    return np.array(merged, np.int64).reshape(-1, 2).T.copy()
