"""Whether arrays share memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from schuss_kernels.storage.memory import Memory

_WORK = 1_000_000
"""Maximum work that numpy does to find a common element of two interleaved arrays."""


_MAX_STRIDES = 3
"""Maximum number of different strides by which arrays that span the same memory are taken apart."""


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


def overlapping(memories: Sequence[Memory], first: int = 0) -> tuple[int, int] | None:
    """Return the indices of two arrays that overlap, the lower first; None if no two do.

    ``first``: where it is not 0, only the first so many arrays are compared with the rest, and not with one another.
    """
    spans = _spans(memories)
    numbers = np.flatnonzero(spans[:, 0] < spans[:, 1])
    order = numbers[np.argsort(spans[numbers, 0], kind="stable")]
    reach = np.maximum.accumulate(spans[order, 1])
    if not (spans[order[1:], 0] < reach[:-1]).any():
        return None
    ends = np.flatnonzero(np.append(spans[order[1:], 0] >= reach[:-1], True)) + 1  # of runs that span the same memory
    for start, end in zip([0, *ends], ends, strict=False):
        for tangle in _tangles([_Walk(number, memories[number]) for number in order[start:end].tolist()], first):
            for place, one in enumerate(tangle):
                for other in tangle[place + 1 :]:
                    if _compared(one, other, first) and overlap(memories[one.number], memories[other.number]):
                        return min(one.number, other.number), max(one.number, other.number)
    return None


def _spans(memories: Sequence[Memory]) -> np.ndarray:
    """Return the first byte's address and one past the last, one row an array: int64 (arrays, 2)."""
    spans = [(m.address + low, m.address + high) for m in memories for low, high in [m.extent()]]
    return np.array(spans, np.int64).reshape(-1, 2)


class _Walk:
    """The bytes of an array: blocks of ``block`` bytes from address ``low`` on, along axes of positive strides.

    ``axes``: stride in bytes and size of each, the outermost first; what is dense is one axis, or the block.
    """

    def __init__(self, number: int, memory: Memory) -> None:
        low, high = memory.extent()
        self.number, self.low, self.reach = number, memory.address + low, high - low
        self.axes: list[tuple[int, int]] = []
        self.block = memory.dtype.itemsize
        pairs = zip(memory.strides, memory.shape, strict=True)
        for stride, size in sorted((abs(stride), size) for stride, size in pairs if size > 1 and stride):
            if not self.axes and stride == self.block:
                self.block *= size
            elif self.axes and stride == self.axes[0][0] * self.axes[0][1]:
                self.axes[0] = self.axes[0][0], self.axes[0][1] * size
            else:
                self.axes.insert(0, (stride, size))

    def box(self, origin: int, strides: Sequence[int]) -> list[tuple[int, int]]:
        """Return an interval for each digit of the addresses, counted from ``origin``, in the mixed radix ``strides``.

        Every byte has its digits in these intervals. What crosses the end of a row may have any digits after it.
        """
        place, reach, axes = self.low - origin, self.reach, self.axes
        intervals: list[tuple[int, int]] = []
        for number, stride in enumerate(strides):
            rows = 0
            if axes and axes[0][0] % stride == 0:
                rows, axes = (axes[0][1] - 1) * axes[0][0] // stride, axes[1:]
            row, place = divmod(place, stride)
            reach -= rows * stride
            if place + reach > stride:
                everything = (0, max(strides))
                return [*intervals, (row, row + rows + 1 + (place + reach - 1) // stride)] + [everything] * (
                    len(strides) - number
                )
            intervals.append((row, row + rows + 1))
        return [*intervals, (place, place + reach)]


def _compared(one: _Walk, other: _Walk, first: int) -> bool:
    return not first or (one.number < first) != (other.number < first)


def _tangles(walks: list[_Walk], first: int) -> list[list[_Walk]]:
    """Take apart arrays that span the same memory, such as columns of a matrix; return those that could not be.

    Arrays lie in boxes, whose sides are intervals of rows, of columns and so on. Wherever their sides fall into groups
    that have no row (or column) in common, the groups have no memory in common. That takes no comparison of pairs.
    """
    counts = Counter(stride for walk in walks for stride, _ in walk.axes)
    common = [stride for stride, _ in counts.most_common(_MAX_STRIDES)]
    tangles = _worth_comparing([walks], first)
    for strides in [sorted(common, reverse=True), *([stride] for stride in common)] if common else []:
        if not tangles:
            break
        boxes = _boxes([walk for tangle in tangles for walk in tangle], strides)
        for digit in [*range(len(strides) + 1)] * 2:
            parts = [part for tangle in tangles for part in _apart(tangle, boxes, digit)]
            tangles = _worth_comparing(parts, first)
    return tangles


def _worth_comparing(tangles: list[list[_Walk]], first: int) -> list[list[_Walk]]:
    return [
        walks
        for walks in tangles
        if len(walks) > 1 and (not first or 0 < sum(walk.number < first for walk in walks) < len(walks))
    ]


def _boxes(walks: list[_Walk], strides: list[int]) -> dict[int, list[tuple[int, int]]]:
    """Return every array's box. Rows begin where, if possible, no array crosses from row to row."""
    origin, row = min(walk.low for walk in walks), strides[0]
    for walk in walks:
        beyond = sum((size - 1) * stride for stride, size in walk.axes if stride % row == 0)
        if row < (walk.low - origin) % row + walk.reach - beyond <= 2 * row:
            origin = walk.low
            break
    return {walk.number: walk.box(origin, strides) for walk in walks}


def _apart(walks: list[_Walk], boxes: Mapping[int, list[tuple[int, int]]], digit: int) -> list[list[_Walk]]:
    """Split arrays into groups whose boxes have nothing in common along one digit."""
    groups: list[list[_Walk]] = []
    reach = 0
    for (low, high), walk in sorted(((boxes[walk.number][digit], walk) for walk in walks), key=lambda pair: pair[0]):
        if groups and low < reach:
            groups[-1].append(walk)
            reach = max(reach, high)
        else:
            groups.append([walk])
            reach = high
    return groups


def overlaps_itself(memory: Memory) -> bool:
    """Return whether elements of an array share memory; True also for huge arrays of interleaved axes."""
    dense = memory.dtype.itemsize
    for stride, extent in zip(reversed(memory.strides), reversed(memory.shape), strict=True):
        if extent != 1 and stride != dense:
            break
        dense *= extent
    else:
        return False
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
        spans = _spans(parameters)
        starts, ends = spans[np.argsort(spans[:, 0], kind="stable")].T
        self._starts, self._reach = starts, np.maximum.accumulate(ends)  # of all parameters that start no later

    def refuse_overlap(self, memories: Sequence[Memory | None]) -> None:
        """Raise a ValueError where one of ``memories``, the gradients, shares memory with a parameter."""
        numbers = [number for number, memory in enumerate(memories) if memory is not None]
        found = [memory for memory in memories if memory is not None]
        lows, highs = _spans(found).T
        last = np.searchsorted(self._starts, highs, side="left")  # parameters before it start below the gradient's end
        near = np.flatnonzero((last > 0) & (self._reach[last - 1] > lows) & (highs > lows)).tolist()
        if not near:
            return
        clash = overlapping([*self._parameters, *(found[place] for place in near)], len(self._parameters))
        if clash is not None:
            owner, name = self._names[clash[0]], self._names[numbers[near[clash[1] - len(self._parameters)]]]
            raise ValueError(f"gradient of {name!r} shares memory with parameter {owner!r}; pass a copy")
