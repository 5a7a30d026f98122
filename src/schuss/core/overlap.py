"""Whether arrays share memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from schuss_kernels.storage.memory import Memory

_WORK = 1_000_000
"""Maximum work that numpy does to find a common element of two interleaved arrays."""


def overlap(one: Memory, other: Memory) -> bool:
    """Return whether two arrays have memory in common; True also where that cannot be told in reasonable time."""
    (low, high), (left, right) = one.extent(), other.extent()
    if one.address + low >= other.address + right or other.address + left >= one.address + high:
        return False
    if high == low or left == right:
        return False
    try:
        return bool(np.shares_memory(_as_ndarray(one), _as_ndarray(other), max_work=_WORK))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True  # two interleaved arrays so tangled that nobody can tell are not worth the risk


def overlapping(memories: Sequence[Memory]) -> tuple[int, int] | None:
    """Return the indices of two arrays that overlap, the lower first; None if no two do."""
    spans = [(m.address + m.extent()[0], m.address + m.extent()[1], number) for number, m in enumerate(memories)]
    open_until: list[tuple[int, int]] = []
    for low, high, number in sorted(span for span in spans if span[0] < span[1]):
        open_until = [(end, other) for end, other in open_until if end > low]
        for _, other in open_until:
            if overlap(memories[other], memories[number]):
                return min(other, number), max(other, number)
        open_until.append((high, number))
    return None


def overlaps_itself(memory: Memory) -> bool:
    """Return whether elements of an array share memory; True also for huge arrays of interleaved axes."""
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


def _as_ndarray(memory: Memory) -> np.ndarray:
    """Make an ndarray over the same addresses. It is never read: they may be a device's."""

    class _Interface:
        __array_interface__ = {  # noqa: RUF012
            "data": (memory.address, True),
            "typestr": memory.dtype.str,
            "shape": memory.shape,
            "strides": memory.strides,
            "version": 3,
        }

    return np.asarray(_Interface())


class AddressRanges:
    """The addresses of the parameters, sorted, to find gradients that share memory with one."""

    def __init__(self, parameters: Sequence[Memory], names: Sequence[str]) -> None:
        self._parameters, self._names = parameters, names
        spans = [[p.address + edge for edge in p.extent()] for p in parameters]
        self._order = sorted(range(len(spans)), key=spans.__getitem__)
        self._starts, self._ends = np.array(spans, np.int64)[self._order].T

    def refuse_overlap(self, memories: Sequence[Memory | None]) -> None:
        """Raise a ValueError where one of ``memories``, the gradients, shares memory with a parameter."""
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
