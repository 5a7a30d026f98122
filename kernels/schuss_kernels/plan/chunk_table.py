"""The chunk table: everything a launch needs, one row of 64-bit integers a chunk.

    KERNEL   which kernel runs the row (CPU: its address; CUDA: its number)
    SCALARS  address of the row's scalars: the gradient scale, then the rule's ``Scalars``
    COUNT    elements in the chunk
    LAYOUT   address of the tensor's walk (strided rows), 0 for dense rows
    START    index of the chunk's first element in the walk
    TENSOR   number of the tensor
    PARAM    address of the chunk's first element (dense) or of the tensor's first (strided)
    GRAD     the same for the gradient; 0: the tensor has none this step, the row is skipped
    SQUARES  which kernel adds up the squares of the row's gradient, as KERNEL
    SUMS     address of what it writes: two float64 for every REDUCE_BLOCK elements of the chunk
    MEASURE  which kernel adds up the rule's measure, as KERNEL; 0: it has none
    MEASURED address of what it writes: the rule's sums, float64, for every REDUCE_BLOCK elements of the chunk
    STATES   and after it: address of the chunk's first element of each state, then of master weight, moving average and
             copy, as far as there are any (always dense, in the order of the walk), then of the chunk's first scale of
             each state in 8 bits, then of the slow weights

A *walk* is how a strided tensor is gone through: ``ndim``, then size, parameter stride and gradient stride in bytes for
each axis, outermost first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..storage.memory import memory_order
from ..storage.quantization import QUANT_BLOCK

KERNEL, SCALARS, COUNT, LAYOUT, START, TENSOR, PARAM, GRAD, SQUARES, SUMS, MEASURE, MEASURED, STATES = range(13)

CHUNK = 256 * 1024
"""Elements in a row at most, and elements a thread takes at once where there are many: long enough to stream. (With 64
Ki a step over ResNet18 took one to three hundredths more.)"""

REDUCE_BLOCK = 1024
"""Elements whose squares are added up together. Blocks start at multiples of it, whatever the chunks: the sum of all of
them is the same bits for any cut."""

_SCALE_BYTES = 4

_LEAST, SHARES = 8 * 1024, 64
"""A smaller plan is cut finer, into about so many shares of at least so many elements, to balance the threads."""

ROW_COST = 64
"""What a row costs beside its elements, in elements: keeps a span of empty-ish rows short."""


@dataclass
class Part:
    """One tensor as the plan sees it. Strides are in bytes; ``walk`` is None where it is dense."""

    kernel: int
    squares: int
    scalars: int
    size: int
    parameter: int
    gradient: int
    parameter_itemsize: int
    gradient_itemsize: int
    states: Sequence[int]
    state_itemsizes: Sequence[int]
    walk: np.ndarray | None = None
    scales: Sequence[int] = ()
    slow: int = 0
    slow_itemsize: int = 0
    measure: int = 0
    sums: int = 0


@dataclass
class Plan:
    """The table and how it is cut.

    ``rows``: int64 (rows, width). ``spans``: int64 row numbers, span ``i`` is rows ``spans[i]`` to ``spans[i + 1]``.
    ``first_row``: int64 (tensors + 1), the rows of tensor ``t`` are ``first_row[t]`` to ``first_row[t + 1]``.
    ``walks``: the walks that LAYOUT points into. ``sums``: float64 (blocks, 2), what SUMS points into.
    ``measured``: float64, what MEASURED points into, of tensor ``t`` from ``first_sum[t]`` on: ``sum_counts[t]`` for
    each of its blocks.
    """

    rows: np.ndarray
    spans: np.ndarray
    first_row: np.ndarray
    walks: np.ndarray
    sums: np.ndarray
    measured: np.ndarray
    first_sum: np.ndarray
    sum_counts: np.ndarray
    elements: int


def walk_of(
    shape: Sequence[int],
    parameter_strides: Sequence[int],
    gradient_strides: Sequence[int],
    parameter_itemsize: int,
    gradient_itemsize: int,
) -> np.ndarray | None:
    """The walk through a parameter and its gradient, None where both are dense in the same order.

    Axes are ordered by the parameter's strides (the order ``numpy.empty_like`` gives the states) and merged where both
    arrays allow it.
    """
    axes = [a for a in memory_order(shape, parameter_strides) if shape[a] != 1]
    merged: list[list[int]] = []
    for axis in axes:
        size, ps, gs = shape[axis], parameter_strides[axis], gradient_strides[axis]
        if merged and merged[-1][1] == size * ps and merged[-1][2] == size * gs:
            merged[-1] = [merged[-1][0] * size, ps, gs]
        else:
            merged.append([size, ps, gs])
    if not merged or (len(merged) == 1 and merged[0][1:] == [parameter_itemsize, gradient_itemsize]):
        return None
    return np.array([len(merged), *(number for axis in merged for number in axis)], dtype=np.int64)


def grain(elements: int, shares: int = SHARES) -> int:
    """Elements in a chunk (and at least in a span) of a plan over so many: a multiple of 1024, at most CHUNK."""
    return min(CHUNK, max(_LEAST, -(-elements // (shares * 1024)) * 1024))


def build(parts: Sequence[Part], chunk: int = CHUNK, span: int = CHUNK, stops: Sequence[int] = ()) -> Plan:
    """The plan for ``parts``, in their order, in rows of ``chunk`` elements at most and spans of ``span`` at least.

    ``chunk`` is a multiple of REDUCE_BLOCK. ``stops``: numbers of parts that begin a span.
    """
    assert chunk % REDUCE_BLOCK == 0, chunk
    strided = [part.walk for part in parts if part.walk is not None]
    walks = np.concatenate(strided) if strided else np.zeros(0, dtype=np.int64)
    walk = int(walks.ctypes.data)
    blocks = [-(-part.size // REDUCE_BLOCK) for part in parts]
    sums = np.zeros((sum(blocks), 2))
    firsts = np.cumsum([0, *blocks])[:-1].tolist()
    sum_counts = np.array([part.sums for part in parts], np.int64)
    first_sum = np.concatenate(([0], np.cumsum(np.array(blocks, np.int64) * sum_counts))).astype(np.int64)
    measured = np.zeros(first_sum[-1])

    width = STATES + max((len(part.states) + len(part.scales) + (part.slow != 0) for part in parts), default=0)
    values = np.zeros((len(parts), width), dtype=np.int64)  # a tensor's first row
    advance = np.zeros((len(parts), width), dtype=np.int64)  # what an element further adds to it
    scaled = np.zeros((len(parts), width), dtype=np.int64)  # what a block of states in 8 bits adds
    for number, (value, step, part) in enumerate(zip(values, advance, parts, strict=True)):
        end = STATES + len(part.states)
        value[end : end + len(part.scales)] = part.scales
        scaled[number, end : end + len(part.scales)] = _SCALE_BYTES
        if part.slow:
            last = end + len(part.scales)
            value[last], step[last] = part.slow, part.slow_itemsize
        columns = {
            KERNEL: part.kernel,
            SCALARS: part.scalars,
            COUNT: part.size,
            TENSOR: number,
            PARAM: part.parameter,
            GRAD: part.gradient,
            SQUARES: part.squares,
            SUMS: sums.ctypes.data + firsts[number] * sums.strides[0],
            MEASURE: part.measure,
            MEASURED: measured.ctypes.data + int(first_sum[number]) * 8,
        }
        value[list(columns)] = list(columns.values())
        value[STATES:end] = part.states
        step[START] = 1
        step[STATES:end] = part.state_itemsizes
        if part.walk is None:
            step[PARAM], step[GRAD] = part.parameter_itemsize, part.gradient_itemsize if part.gradient else 0
        else:
            value[LAYOUT] = walk
            walk += part.walk.nbytes

    counts = -(-values[:, COUNT] // chunk)
    first_row = np.concatenate(([0], np.cumsum(counts)))
    start = (np.arange(first_row[-1]) - np.repeat(first_row[:-1], counts)) * chunk
    rows = np.repeat(values, counts, axis=0)
    rows += np.repeat(advance, counts, axis=0) * start[:, None]
    rows += np.repeat(scaled, counts, axis=0) * (start // QUANT_BLOCK)[:, None]
    rows[:, SUMS] += start // REDUCE_BLOCK * sums.strides[0]
    rows[:, MEASURED] += start // REDUCE_BLOCK * np.repeat(sum_counts, counts) * 8
    rows[:, COUNT] = np.minimum(chunk, rows[:, COUNT] - start)
    elements = int(rows[:, COUNT].sum())
    spans = np.union1d(cut(rows, span), first_row[list(stops)]).astype(np.int64)
    return Plan(rows, spans, first_row, walks, sums, measured, first_sum, sum_counts, elements)


def cut(rows: np.ndarray, span: int) -> np.ndarray:
    """Row numbers that cut the table into spans of about ``span`` elements (one row at least)."""
    work = np.cumsum(rows[:, COUNT] + ROW_COST)
    total = int(work[-1]) if len(work) else 0
    ends = np.searchsorted(work, np.arange(1, total // span + 1) * span, side="left") + 1
    return np.unique(np.concatenate(([0], ends[ends < len(rows)], [len(rows)]))).astype(np.int64)
