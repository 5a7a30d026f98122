"""Arrays as kernels see them: an address, a dtype, a shape, strides; and the owner, who allocates, reads and writes."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

_OBJECT_BYTES = object.__basicsize__
"""Bytes at the start of every object that are Python's."""


@dataclass(frozen=True, slots=True)
class Memory:
    """An array in host memory. A subclass holds arrays elsewhere (:class:`.cuda.memory.CudaMemory`).

    Attributes
    ----------
    array
        What owns the memory: a numpy array, or None where only the layout matters.
    address
        Of the first element.
    dtype, shape
        As numpy's.
    strides
        In bytes.
    scales
        For a state in 8-bit codes: one float32 for every quantization block, blocks in the parameter's memory order.
    """

    array: Any
    address: int
    dtype: np.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    scales: Memory | None = field(default=None, kw_only=True)

    on_host: ClassVar[bool] = True
    """Whether the array lies in host memory, so that ``array`` is a numpy array."""

    @classmethod
    def of(cls, array: np.ndarray) -> Memory:
        """Describe a numpy array. Its dtype's metadata is dropped."""
        return cls(array, address_of(array), np.dtype(array.dtype.type), array.shape, array.strides)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    @property
    def writable(self) -> bool:
        """Whether the owner allows writing."""
        return bool(self.array.flags.writeable)

    def change(self) -> str:
        """Return what was done to ``array`` since it was described, where kernels then cannot write to it any more.

        Empty if nothing was. A numpy array that is resized in place has other memory then.
        """
        if self.array.shape != self.shape:
            return f"was resized: expected shape {self.shape}, got {self.array.shape}; build a new optimizer for it"
        if address_of(self.array) != self.address:
            return "was resized and has other memory than before; build a new optimizer for it"
        return "" if self.writable else "was made read-only; it is written in every step and must be writable"

    def extent(self) -> tuple[int, int]:
        """First byte and one past the last, relative to ``address``; (0, 0) where there is no element."""
        low, high = 0, self.dtype.itemsize
        for size, stride in zip(self.shape, self.strides, strict=True):
            if size == 0:
                return 0, 0
            if stride > 0:
                high += (size - 1) * stride
            else:
                low += (size - 1) * stride
        return low, high

    def read(self) -> np.ndarray:
        """Return a copy of the values as a numpy array in C order."""
        copy: np.ndarray = self.array.copy()
        return copy

    def write(self, values: np.ndarray) -> None:
        """Set all values, from an array of the same shape, rounded to the dtype."""
        self.array[...] = values

    def to_host(self) -> Memory:
        """Return this memory, or a copy of the values in host memory where they lie elsewhere.

        Address and strides stay those of the original: they say in what order its elements are walked.
        """
        return self

    def allocate_like(self, dtype: Any, fill: float) -> Memory:
        """Make a dense array of this shape where this one lies, its axes in the same order, every element ``fill``."""
        dtype = np.dtype(dtype)
        piece = np.empty(self.size * dtype.itemsize, np.uint8)
        return self.carve_like(piece, 0, int(piece.ctypes.data), dtype, fill)

    def carve_like(self, piece: np.ndarray, start: int, address: int, dtype: np.dtype, fill: float) -> Memory:
        """Do as :meth:`allocate_like` does, in the host bytes of ``piece`` from ``start`` on, at ``address``."""
        strides = _strides_like(self.shape, self.strides, dtype.itemsize)
        array = np.ndarray(self.shape, dtype, piece, start, strides)
        array[...] = fill
        return Memory(array, address, dtype, self.shape, strides)


@functools.lru_cache(maxsize=1024)
def _strides_like(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the strides of a dense array whose axes lie in memory in the order of those with these strides."""
    return dense_strides(shape, memory_order(shape, strides), itemsize)


def address_field(array: np.ndarray) -> ctypes.c_size_t:
    """Return the field of an array's header that holds the address of its first element, to be read again at any time.

    It is the first field after Python's own. The header's layout is part of NumPy's stable binary interface. (The ways
    that Python has, ``array.ctypes.data`` and ``array.__array_interface__``, take ten times as long.)
    """
    return ctypes.c_size_t.from_address(id(array) + _OBJECT_BYTES)


def address_of(array: np.ndarray) -> int:
    """Return the address of an array's first element."""
    return address_field(array).value


def memory_order(shape: Sequence[int], strides: Sequence[int]) -> list[int]:
    """Axes from the outermost in memory to the innermost."""
    return sorted(range(len(shape)), key=lambda axis: (-abs(strides[axis]), axis))


def dense_strides(shape: Sequence[int], order: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """Strides in bytes of a dense array whose axes lie in memory in ``order``, outermost first."""
    strides = [0] * len(shape)
    for axis in reversed(order):
        strides[axis] = itemsize
        itemsize *= shape[axis]
    return tuple(strides)
