"""Where an optimizer's own arrays lie."""

from __future__ import annotations

import numpy as np
from schuss_kernels.plan import chunk_table
from schuss_kernels.storage.memory import Memory

LINE = 64
"""Bytes that an array starts at a multiple of: a vector then never lies in two cache lines."""

HUGE = 4 << 20
"""Bytes from which NumPy asks Linux for huge pages."""

PIECE = 16 << 20
"""Bytes of a piece at most."""


class Arena:
    """Makes arrays where a backend works.

    On the host, arrays that are too small to have huge pages share pieces of memory that have some: crossing from page
    to page takes 2 to 4 % of a step on the tensors of ResNet18. A piece is as large as all before it together, so at
    most half of the memory is spare.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._piece = np.empty(0, np.uint8)
        self._used = self._given = 0

    def array(self, like: Memory, dtype: np.dtype, fill: float) -> Memory:
        """A new dense array of a shape, its axes in the order of the other's in memory, every element ``fill``."""
        if self._backend == "cuda":
            from schuss_kernels.cuda import memory

            return memory.allocate(like, dtype, fill)
        order = chunk_table.memory_order(like.shape, like.strides)
        dense = self._take(like.size * dtype.itemsize).view(dtype).reshape([like.shape[axis] for axis in order])
        dense[...] = fill
        array = dense.transpose(np.argsort(order)) if order else dense
        return Memory(array, int(array.__array_interface__["data"][0]), dtype, array.shape, array.strides)

    def _take(self, size: int) -> np.ndarray:
        if size >= HUGE:
            return _lined_up(size)
        need = -(-max(size, 1) // LINE) * LINE
        if self._used + need > self._piece.size:
            self._piece, self._used = _lined_up(min(max(need, self._given), PIECE)), 0
        start, self._used = self._used, self._used + need
        self._given += need
        return self._piece[start : start + size]


def _lined_up(size: int) -> np.ndarray:
    whole = np.empty(size + LINE, np.uint8)
    start = -int(whole.ctypes.data) % LINE
    return whole[start : start + size]
