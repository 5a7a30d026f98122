"""Any array a user has -> where it lies and how, or an error that says what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from schuss_kernels.engine.plan_engine import Memory
from schuss_kernels.plan import chunk_table
from schuss_kernels.storage import dtypes

_WORK = 1_000_000
"""Bound on the search for a common element of two interleaved arrays."""


def is_device(array: Any) -> bool:
    """Whether the array lies in CUDA memory."""
    if isinstance(array, np.ndarray):
        return False
    try:
        return hasattr(array, "__cuda_array_interface__")
    except RuntimeError:  # a torch tensor on the device that requires a gradient
        return True


def parameter(array: Any, name: str) -> Memory:
    """A parameter, to be written in place.

    Raises
    ------
    TypeError
        When it is no array, or of another dtype than a kernel can work on.
    ValueError
        When it is read-only or overlaps itself.
    """
    memory = _memory(array, f"parameter {name!r}", f"float array ({dtypes.names()})")
    if not _is_writable(memory):
        raise ValueError(f"parameter {name!r} is read-only; it is updated in place and must be writable")
    if _overlaps_itself(memory):
        raise ValueError(
            f"parameter {name!r} overlaps itself (shape {memory.shape}, strides {memory.strides}): some elements share "
            "memory and would be updated twice; pass a copy"
        )
    return memory


def gradient(array: Any, name: str, like: Memory, written: bool = False) -> Memory:
    """The gradient of a parameter; ``written``: it is set to zero.

    Raises
    ------
    TypeError
        When it is no array, of a wrong dtype, or not where the parameter is (host or device).
    ValueError
        When its shape is not the parameter's.
    """
    if isinstance(array, np.generic):  # what numpy makes of a 0-d result
        array = np.asarray(array)
    memory = _memory(array, f"gradient of {name!r}", f"float array ({dtypes.names()}) or None")
    if memory.shape != like.shape:
        raise ValueError(f"gradient of {name!r}: expected shape {like.shape}, got {memory.shape}")
    if isinstance(memory.array, np.ndarray) != isinstance(like.array, np.ndarray):
        places = {True: "host memory", False: "CUDA memory"}
        there, here = (places[isinstance(m.array, np.ndarray)] for m in (like, memory))
        raise TypeError(f"gradient of {name!r}: the parameter is in {there}, the gradient in {here}")
    if written and not _is_writable(memory):
        raise ValueError(f"zero_grad: the gradient of {name!r} is read-only")
    if written and _overlaps_itself(memory):
        raise ValueError(f"zero_grad: the gradient of {name!r} overlaps itself (strides {memory.strides}); pass a copy")
    return memory


def copy(array: Any, name: str, like: Memory) -> Memory:
    """The array that a parameter is copied to: of its shape, dense, its axes in memory in the same order.

    Raises
    ------
    TypeError, ValueError
        When it is no such array, or cannot be written.
    """
    what = f"copy_to of {name!r}"
    memory = _memory(array, what, f"float array ({dtypes.names()})")
    if memory.shape != like.shape:
        raise ValueError(f"{what}: expected shape {like.shape}, got {memory.shape}")
    if isinstance(memory.array, np.ndarray) != isinstance(like.array, np.ndarray):
        raise TypeError(f"{what}: it and the parameter must both be in host memory, or both in CUDA memory")
    if not _is_writable(memory):
        raise ValueError(f"{what} is read-only; it is written in every step")
    order = chunk_table.memory_order(like.shape, like.strides)
    dense = chunk_table.dense_strides(memory.shape, order, memory.dtype.itemsize)
    if memory.size and any(n > 1 and s != d for n, s, d in zip(memory.shape, memory.strides, dense, strict=True)):
        raise ValueError(
            f"{what}: expected a dense array with its axes in memory in the order of the parameter's "
            f"(strides {dense}), got strides {memory.strides}"
        )
    return memory


def _is_writable(memory: Memory) -> bool:
    if isinstance(memory.array, np.ndarray):
        return memory.array.flags.writeable
    return not getattr(memory, "read_only", False)


def _memory(array: Any, what: str, expected: str) -> Memory:
    if is_device(array):
        from schuss_kernels.cuda import engine

        return engine.memory_of(array, what)
    array = _ndarray(array, what, expected)
    if not array.dtype.isnative:
        raise TypeError(f"{what}: expected a {expected}, got {array.dtype.str!r}, a float of the other byte order")
    if array.dtype.names is not None or dtypes.storage_of(array.dtype) is None:
        raise TypeError(f"{what}: expected a {expected}, got {array.dtype}")
    dtype = np.dtype(array.dtype.type)  # without metadata
    return Memory(array, int(array.__array_interface__["data"][0]), dtype, array.shape, array.strides)


def _ndarray(array: Any, what: str, expected: str) -> np.ndarray:
    if hasattr(array, "mask") and isinstance(array, np.ma.MaskedArray):  # numpy.ma is slow to import
        raise TypeError(f"{what}: expected a {expected}, got a masked array, whose mask would be ignored")
    if isinstance(array, np.ndarray):
        return array
    if hasattr(array, "__dlpack__"):  # torch and others, on the host: the same memory, seen by numpy
        try:
            return np.from_dlpack(array.detach() if hasattr(array, "detach") else array)
        except (BufferError, RuntimeError, TypeError, ValueError) as error:
            raise TypeError(f"{what}: numpy cannot see this {type(array).__name__}: {error}") from error
    try:
        return np.asarray(memoryview(array))  # array.array, ctypes and others: the same memory
    except (TypeError, ValueError):
        raise TypeError(f"{what}: expected a {expected}, got {_described(array)}") from None


def _described(value: Any) -> str:
    return f"{type(value).__name__} {value!r}" if isinstance(value, (int, float, str, bool)) else type(value).__name__


def read(memory: Memory) -> np.ndarray:
    """A copy of an array, on the host."""
    if isinstance(memory.array, np.ndarray):
        return memory.array.copy()
    from schuss_kernels.cuda import engine

    return engine.to_host(memory)


def write(memory: Memory, values: np.ndarray) -> None:
    """Put values into an array, rounded to its dtype."""
    if isinstance(memory.array, np.ndarray):
        memory.array[...] = values
        return
    from schuss_kernels.cuda import engine

    engine.from_host(values, memory)


def overlap(one: Memory, other: Memory) -> bool:
    """Whether two arrays have memory in common."""
    (low, high), (left, right) = one.extent(), other.extent()
    if one.address + low >= other.address + right or other.address + left >= one.address + high:
        return False
    if high == low or left == right:
        return False
    try:
        return bool(np.shares_memory(_seen(one), _seen(other), max_work=_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True  # two interleaved arrays so tangled that nobody can tell are not worth the risk


def overlapping(memories: Sequence[Memory]) -> tuple[int, int] | None:
    """Numbers of two arrays that overlap, None if there are none."""
    spans = [(m.address + m.extent()[0], m.address + m.extent()[1], number) for number, m in enumerate(memories)]
    open_until: list[tuple[int, int]] = []
    for low, high, number in sorted(span for span in spans if span[0] < span[1]):
        open_until = [(end, other) for end, other in open_until if end > low]
        for _, other in open_until:
            if overlap(memories[other], memories[number]):
                return min(other, number), max(other, number)
        open_until.append((high, number))
    return None


def _overlaps_itself(memory: Memory) -> bool:
    axes = sorted(
        (abs(stride), extent) for stride, extent in zip(memory.strides, memory.shape, strict=True) if extent > 1
    )
    if memory.size == 0:
        return False
    reach = memory.dtype.itemsize
    for stride, extent in axes:
        if stride < reach:
            break
        reach = stride * (extent - 1) + reach
    else:
        return False
    if memory.size > 10 * _WORK:
        return True  # interleaved axes in a huge array: not told apart from overlap
    places = np.zeros((1,) * len(memory.shape), np.int64)
    for axis, (stride, extent) in enumerate(zip(memory.strides, memory.shape, strict=True)):
        shape = [1] * len(memory.shape)
        shape[axis] = extent
        places = places + (np.arange(extent) * stride).reshape(shape)
    return bool((np.diff(np.sort(places, axis=None)) < memory.dtype.itemsize).any())


def _seen(memory: Memory) -> np.ndarray:
    """An ndarray over the same addresses; never read, so they may be a device's."""

    class _Interface:
        __array_interface__ = {  # noqa: RUF012
            "data": (memory.address, True),
            "typestr": memory.dtype.str,
            "shape": memory.shape,
            "strides": memory.strides,
            "version": 3,
        }

    return np.asarray(_Interface())


class Spans:
    """Where parameters lie, to find gradients that lie there too."""

    def __init__(self, parameters: Sequence[Memory], names: Sequence[str]) -> None:
        self._parameters, self._names = parameters, names
        spans = [[p.address + edge for edge in p.extent()] for p in parameters]
        self._order = sorted(range(len(spans)), key=spans.__getitem__)
        self._starts, self._ends = np.array(spans, np.int64)[self._order].T

    def refuse_overlap(self, memories: Sequence[Memory | None]) -> None:
        """Raise a ValueError where a gradient, one a parameter, shares memory with a parameter."""
        reach = np.maximum.accumulate(self._ends)  # of all parameters that start no later
        spans = [(0, 0) if m is None else m.extent() for m in memories]
        where = np.array([0 if m is None else m.address for m in memories], np.int64)
        lows, highs = (where[:, None] + np.array(spans, np.int64)).T
        last = np.searchsorted(self._starts, highs, side="left")  # parameters before it start below the gradient's end
        for number in np.flatnonzero((last > 0) & (reach[last - 1] > lows) & (highs > lows)).tolist():
            for place in np.flatnonzero(self._ends[: last[number]] > lows[number]).tolist():
                memory, other = memories[number], self._order[place]
                assert memory is not None
                if overlap(self._parameters[other], memory):
                    name, owner = self._names[number], self._names[other]
                    raise ValueError(f"gradient of {name!r} shares memory with parameter {owner!r}; pass a copy")
