"""The memory of the arrays that an optimizer makes."""

from __future__ import annotations

import numpy as np
from schuss_kernels.storage.memory import Memory

LINE_BYTES = 64
"""Arrays start at a multiple of it, so that a vector never lies in two cache lines."""

HUGE_PAGE_BYTES = 4 << 20
"""From this size on NumPy asks Linux for huge pages."""

MAX_PIECE_BYTES = 16 << 20
"""Maximum size of a piece."""


class Arena:
    """Makes arrays where others like them lie: on the host, or on the device.

    On the host, arrays that are too small to have huge pages share pieces of memory that have some: crossing from page
    to page takes 2 to 4 % of a step on the tensors of ResNet18. A piece is as large as all before it together, so at
    most half of the memory is spare.
    """

    def __init__(self) -> None:
        self._piece = np.empty(0, np.uint8)
        self._used = self._given = self._address = 0

    def array(self, like: Memory, dtype: np.dtype, fill: float) -> Memory:
        """Make a dense array of the shape of ``like``, with its order of axes in memory, every element ``fill``."""
        if not like.on_host:
            return like.allocate_like(dtype, fill)
        return like.carve_like(*self._take(like.size * dtype.itemsize), dtype, fill)

    def _take(self, size: int) -> tuple[np.ndarray, int, int]:
        """Return a piece, where in it so many bytes are free, and their address."""
        if size >= HUGE_PAGE_BYTES:
            piece = _lined_up(size)
            return piece, 0, int(piece.ctypes.data)
        need = -(-max(size, 1) // LINE_BYTES) * LINE_BYTES
        if self._used + need > self._piece.size:
            self._piece, self._used = _lined_up(min(max(need, self._given), MAX_PIECE_BYTES)), 0
            self._address = int(self._piece.ctypes.data)
        start, self._used = self._used, self._used + need
        self._given += need
        return self._piece, start, self._address + start


def _lined_up(size: int) -> np.ndarray:
    whole = np.empty(size + LINE_BYTES, np.uint8)
    start = -int(whole.ctypes.data) % LINE_BYTES
    return whole[start : start + size]
