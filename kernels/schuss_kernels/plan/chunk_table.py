"""The chunk table: one row of 64-bit integers for every chunk of a tensor. A launch needs nothing else.

    KERNEL   the kernel that updates the chunk (CPU: its address; CUDA: its number)
    SCALARS  address of the tensor's slot: the riders' numbers, then the rule's ``Scalars``
    COUNT    elements in the chunk
    LAYOUT   address of the tensor's strided layout; 0: parameter and gradient are dense
    START    number of the chunk's first element in the tensor
    TENSOR   number of the tensor
    PARAM    address of the chunk's first element (dense) or of the tensor's first element (strided)
    GRAD     the same for the gradient; 0: the tensor has no gradient in this step, and the row is skipped
    SQUARES  the kernel that adds up the squares of the chunk's gradient, as in KERNEL; 0: none
    SUMS     address of its result: two float64 for every REDUCE_BLOCK elements of the chunk
    MEASURE  the kernel that adds up the rule's measure of the chunk, as in KERNEL; 0: none
    MEASURED address of its result: the rule's sums, float64, for every REDUCE_BLOCK elements of the chunk
    STATES   and the columns after it: addresses of the chunk's first element of each array that the tensor has besides
             parameter and gradient, in the order of :attr:`.Spec.streams`. All of these arrays are dense.

A *strided layout* says how the elements of a strided tensor are numbered and where they lie. It is an int64 array:
``ndim``, then for each axis, outermost first, its size, the parameter's stride and the gradient's stride in bytes. The
states of the tensor lie in memory in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from ..storage.memory import memory_order

KERNEL, SCALARS, COUNT, LAYOUT, START, TENSOR, PARAM, GRAD, SQUARES, SUMS, MEASURE, MEASURED, STATES = range(13)

MAX_CHUNK = 256 * 1024
"""Maximum of elements in a chunk: long enough to stream. (With 64 Ki a step over ResNet18 took 1 to 3 % longer.)"""

REDUCE_BLOCK = 1024
"""Elements whose squares, or measures, are added up together. These reduction blocks start at multiples of it in a
tensor, whatever the chunks are: the sum over all of them has the same bits for any chunk size."""

MIN_CHUNK, TARGET_CHUNKS = 8 * 1024, 64
"""A small plan is cut into about TARGET_CHUNKS chunks of MIN_CHUNK elements or more, so that all threads have work."""

ROW_COST = 64
"""Time that a row takes besides its elements, counted in elements: spans of nearly empty rows stay short."""


class Column(NamedTuple):
    """What an array in one of the columns from STATES on is like: bytes of an entry, and see :class:`.Stream`."""

    itemsize: int
    elements_per_entry: int = 1


@dataclass(slots=True)
class TensorEntry:
    """One tensor's values in the chunk table, before it is cut into rows.

    Attributes
    ----------
    kernel, squares, measure
        What stands in the columns KERNEL, SQUARES and MEASURE.
    scalars, parameter, gradient, arrays
        Addresses of the tensor's slot, of the first elements of parameter and gradient, and of the first entries of the
        arrays in the columns from STATES on.
    size
        Elements of the parameter.
    parameter_itemsize, gradient_itemsize
        Bytes of an element.
    columns
        What these columns have.
    layout
        The strided layout; None where parameter and gradient are dense.
    sums
        How many sums the rule's measure has.
    """

    kernel: int
    squares: int
    scalars: int
    size: int
    parameter: int
    gradient: int
    parameter_itemsize: int
    gradient_itemsize: int
    arrays: Sequence[int]
    columns: tuple[Column, ...]
    layout: np.ndarray | None = None
    measure: int = 0
    sums: int = 0


@dataclass
class Plan:
    """The chunk table, how it is cut into spans, and the arrays that it points into.

    Attributes
    ----------
    rows
        The chunk table: int64 (rows, columns).
    spans
        int64 row numbers: span ``i`` is rows ``spans[i]`` to ``spans[i + 1]``, the last one excluded. A thread takes a
        span at a time.
    first_row
        int64 (tensors + 1): the rows of tensor ``t`` are ``first_row[t]`` to ``first_row[t + 1]``, the last one
        excluded.
    layouts
        int64: the strided layouts that LAYOUT points into.
    sums
        float64 (reduction blocks, 2): what SUMS points into.
    measured
        float64: what MEASURED points into. Those of tensor ``t`` begin at ``first_sum[t]``.
    first_sum, sum_counts
        int64 (tensors + 1) and (tensors): ``measured`` has ``sum_counts[t]`` sums a block for tensor ``t``.
    elements
        Elements of all tensors.
    """

    rows: np.ndarray
    spans: np.ndarray
    first_row: np.ndarray
    layouts: np.ndarray
    sums: np.ndarray
    measured: np.ndarray
    first_sum: np.ndarray
    sum_counts: np.ndarray
    elements: int


def strided_layout(
    shape: Sequence[int],
    parameter_strides: Sequence[int],
    gradient_strides: Sequence[int],
    parameter_itemsize: int,
    gradient_itemsize: int,
) -> np.ndarray | None:
    """Return the strided layout of a parameter and its gradient; None where both are dense in the same order.

    Strides are in bytes. Axes are ordered by the parameter's strides (the order that ``numpy.empty_like`` gives the
    states) and merged where both arrays allow it.
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


def chunk_size(elements: int, chunks: int = TARGET_CHUNKS) -> int:
    """Return how many elements a chunk has in a plan over ``elements`` that is cut into about ``chunks`` chunks.

    It is a multiple of 1024 from MIN_CHUNK to MAX_CHUNK.
    """
    return min(MAX_CHUNK, max(MIN_CHUNK, -(-elements // (chunks * 1024)) * 1024))


def build(
    tensors: Sequence[TensorEntry], chunk: int = MAX_CHUNK, span: int = MAX_CHUNK, first_tensors: Sequence[int] = ()
) -> Plan:
    """Build the plan for ``tensors``, in their order.

    ``chunk``: maximum of elements in a row, a multiple of REDUCE_BLOCK. ``span``: elements in a span, about.
    ``first_tensors``: numbers of tensors at which a new span begins.
    """
    assert chunk % REDUCE_BLOCK == 0, chunk
    strided = [tensor.layout for tensor in tensors if tensor.layout is not None]
    layouts = np.concatenate(strided) if strided else np.zeros(0, dtype=np.int64)
    blocks = [-(-tensor.size // REDUCE_BLOCK) for tensor in tensors]
    sums = np.zeros((sum(blocks), 2))
    first_block = np.cumsum([0, *blocks])[:-1].tolist()
    sum_counts = np.array([tensor.sums for tensor in tensors], np.int64)
    first_sum = np.concatenate(([0], np.cumsum(np.array(blocks, np.int64) * sum_counts))).astype(np.int64)
    measured = np.zeros(first_sum[-1])

    width = STATES + max((len(tensor.columns) for tensor in tensors), default=0)
    values = np.zeros((len(tensors), width), dtype=np.int64)  # the row of a tensor's first chunk
    advance = np.zeros((len(tensors), STATES), dtype=np.int64)  # what each further element adds to it
    dense = np.array([tensor.layout is None for tensor in tensors], bool)
    layout_sizes = [0 if tensor.layout is None else tensor.layout.nbytes for tensor in tensors]
    columns: dict[int, Any] = {
        KERNEL: [tensor.kernel for tensor in tensors],
        SCALARS: [tensor.scalars for tensor in tensors],
        COUNT: [tensor.size for tensor in tensors],
        LAYOUT: np.where(dense, 0, int(layouts.ctypes.data) + np.cumsum([0, *layout_sizes])[:-1]),
        TENSOR: np.arange(len(tensors)),
        PARAM: [tensor.parameter for tensor in tensors],
        GRAD: [tensor.gradient for tensor in tensors],
        SQUARES: [tensor.squares for tensor in tensors],
        SUMS: sums.ctypes.data + np.array(first_block, np.int64) * sums.strides[0],
        MEASURE: [tensor.measure for tensor in tensors],
        MEASURED: measured.ctypes.data + first_sum[:-1] * 8,
    }
    for column, numbers in columns.items():
        values[:, column] = numbers
    advance[:, START] = 1
    advance[:, PARAM] = [tensor.parameter_itemsize for tensor in tensors] * dense
    advance[:, GRAD] = [tensor.gradient_itemsize for tensor in tensors] * (dense & (values[:, GRAD] != 0))

    counts = -(-values[:, COUNT] // chunk)
    first_row = np.concatenate(([0], np.cumsum(counts)))
    start = (np.arange(first_row[-1]) - np.repeat(first_row[:-1], counts)) * chunk
    rows = np.repeat(values, counts, axis=0)
    rows[:, :STATES] += np.repeat(advance, counts, axis=0) * start[:, None]
    rows[:, SUMS] += start // REDUCE_BLOCK * sums.strides[0]
    rows[:, MEASURED] += start // REDUCE_BLOCK * np.repeat(sum_counts, counts) * 8
    rows[:, COUNT] = np.minimum(chunk, rows[:, COUNT] - start)
    elements = int(rows[:, COUNT].sum())
    spans = _each_once(np.concatenate((_cut_spans(rows, span), first_row[list(first_tensors)])))
    plan = Plan(rows, spans, first_row, layouts, sums, measured, first_sum, sum_counts, elements)
    write_arrays(plan, range(len(tensors)), [t.arrays for t in tensors], [t.columns for t in tensors])
    return plan


def write_arrays(
    plan: Plan, numbers: Sequence[int], arrays: Sequence[Sequence[int]], columns: Sequence[tuple[Column, ...]]
) -> None:
    """Write the columns from STATES on in the rows of some tensors, given by their numbers.

    ``arrays``, ``columns``: as in :class:`TensorEntry`, for every one of these tensors.
    """
    width = plan.rows.shape[1] - STATES
    kinds: dict[tuple[Column, ...], int] = {}
    kind_of = [kinds.setdefault(each, len(kinds)) for each in columns]
    itemsizes = _padded([[column.itemsize for column in kind] for kind in kinds], width, 0)[kind_of]
    per_entry = _padded([[column.elements_per_entry for column in kind] for kind in kinds], width, 1)[kind_of]
    counts = np.diff(plan.first_row)
    chosen = np.zeros(len(counts), bool)
    chosen[numbers] = True
    rows, counts = np.flatnonzero(np.repeat(chosen, counts)), counts[numbers]
    entry = plan.rows[rows, START][:, None] // np.repeat(per_entry, counts, axis=0)
    plan.rows[rows, STATES:] = np.repeat(_padded(arrays, width, 0), counts, axis=0) + (
        np.repeat(itemsizes, counts, axis=0) * entry
    )


def _padded(rows: Sequence[Sequence[int]], width: int, filler: int) -> np.ndarray:
    """Return rows of numbers as an int64 array (rows, width), with ``filler`` behind them."""
    found = np.full((len(rows), width), filler, np.int64)
    lengths = np.array([len(row) for row in rows], np.int64)
    found[np.arange(width) < lengths[:, None]] = list(chain.from_iterable(rows))
    return found


def _cut_spans(rows: np.ndarray, span: int) -> np.ndarray:
    """Return the row numbers that cut a chunk table into spans of about ``span`` elements, one row at least."""
    work = np.cumsum(rows[:, COUNT] + ROW_COST)
    total = int(work[-1]) if len(work) else 0
    ends = np.searchsorted(work, np.arange(1, total // span + 1) * span, side="left") + 1
    return _each_once(np.concatenate(([0], ends[ends < len(rows)], [len(rows)])))


def _each_once(numbers: np.ndarray) -> np.ndarray:
    """Return the numbers in order, each once, as int64. (numpy.unique would import numpy.ma, for 5 ms and more.)"""
    numbers = np.sort(numbers).astype(np.int64)
    return numbers[np.concatenate(([True], numbers[1:] != numbers[:-1]))]
