"""An array as a kernel sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Memory:
    """An array as a kernel sees it. ``strides`` in bytes; ``array`` is what owns the memory.

    ``scales``: of a state in 8 bits, one float32 for every block of its codes in the order of the walk.
    """

    array: Any
    address: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scales: Memory | None = field(default=None, kw_only=True)

    @property
    def size(self) -> int:
        size = 1
        for extent in self.shape:
            size *= extent
        return size

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def extent(self) -> tuple[int, int]:
        """First byte and one past the last, relative to ``address``; (0, 0) where there is no element."""
        if self.size == 0:
            return 0, 0
        reach = [(n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)]
        return sum(r for r in reach if r < 0), sum(r for r in reach if r > 0) + self.dtype.itemsize
