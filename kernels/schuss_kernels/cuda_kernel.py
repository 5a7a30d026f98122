"""The CUDA kernel: one grid walks the rows of the plan that have one spec.

Compiled and simulated kernels are the same Python below; only the words they are written in differ.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from .engine import LANES
from .plan import BLOCK, COUNT, GRAD, LAYOUT, PARAM, SCALARS, START, SUMS
from .storage import Spec, Squares

SLICE = 4096
"""Elements of a row that a block takes at once. A row of the plan is cut into such slices, so that a model of few large
tensors still gives every multiprocessor work."""


def _dense(words: Any, spec: Spec) -> Any:
    table, addresses, misaligned = words.table, words.addresses, words.misaligned
    rider_numbers, rule_scalars, row_key = words.rider_numbers, words.rule_scalars, words.row_key
    move_one, move_lanes, lanes = words.move_one, words.move_lanes, words.lanes
    p_size, g_size = spec.parameter.itemsize, spec.gradient.itemsize

    def dense(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            gradient = table(row, GRAD)
            if gradient != 0 and first < last:
                h = rule_scalars(table(row, SCALARS))
                r = rider_numbers(table(row, SCALARS))
                key, start = row_key(r, row), table(row, START)
                parameter, others = table(row, PARAM), addresses(row)
                whole = first
                if misaligned(parameter, gradient, others) == 0:
                    whole = last - last % lanes  # a slice starts at a multiple of the lanes
                i = first + cuda.threadIdx.x * lanes
                while i < whole:
                    move_lanes(parameter + i * p_size, gradient + i * g_size, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x * lanes
                i = whole + cuda.threadIdx.x
                while i < last:
                    move_one(parameter + i * p_size, gradient + i * g_size, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return dense


def _strided(words: Any) -> Any:
    table, addresses, move_one = words.table, words.addresses, words.move_one
    rider_numbers, rule_scalars, row_key = words.rider_numbers, words.rule_scalars, words.row_key

    def strided(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            if table(row, GRAD) != 0 and first < last:
                h = rule_scalars(table(row, SCALARS))
                r = rider_numbers(table(row, SCALARS))
                key, start = row_key(r, row), table(row, START)
                others, walk = addresses(row), table(row, LAYOUT)
                i = first + cuda.threadIdx.x
                while i < last:
                    # The element's index in the walk taken apart, innermost axis first.
                    parameter, gradient, rest = table(row, PARAM), table(row, GRAD), start + i
                    axis = table(walk, 0) - 1
                    while axis >= 0:
                        outer = rest // table(walk, 1 + 3 * axis)
                        index = rest - outer * table(walk, 1 + 3 * axis)
                        parameter += index * table(walk, 2 + 3 * axis)
                        gradient += index * table(walk, 3 + 3 * axis)
                        rest = outer
                        axis -= 1
                    move_one(parameter, gradient, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return strided


def source(words: Any, spec: Spec) -> Any:
    """The kernel as a Python function of (rows' address, bytes from row to row, number of rows)."""
    return _strided(words) if spec.strided else _dense(words, spec)


def squares_source(words: Any, wanted: Squares) -> Any:
    """The kernel that adds up squares: a thread takes one of the LANES of a BLOCK and writes its sum, and whether all
    are finite (0.0 or NaN); the sums are folded on the host. Neighbouring threads read neighbouring elements."""
    table, gradient_at, write = words.table, words.gradient, words.write
    size, strided = wanted.gradient.itemsize, wanted.strided

    def squares(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            gradient = table(row, GRAD)
            if gradient != 0 and first < last:
                place = cuda.threadIdx.x
                while place // LANES * BLOCK < last - first:
                    block, lane = first // BLOCK + place // LANES, place % LANES
                    total, odd = 0.0, 0.0
                    i = block * BLOCK + lane
                    while i < min(block * BLOCK + BLOCK, last):
                        address = gradient
                        if strided:
                            rest, axis = table(row, START) + i, table(table(row, LAYOUT), 0) - 1
                            while axis >= 0:
                                outer = rest // table(table(row, LAYOUT), 1 + 3 * axis)
                                index = rest - outer * table(table(row, LAYOUT), 1 + 3 * axis)
                                address += index * table(table(row, LAYOUT), 3 + 3 * axis)
                                rest = outer
                                axis -= 1
                        else:
                            address += i * size
                        value = gradient_at(address)
                        total += value * value
                        odd += value - value
                        i += LANES
                    write(table(row, SUMS), (block * LANES + lane) * 2, total)
                    write(table(row, SUMS), (block * LANES + lane) * 2 + 1, odd)
                    place += cuda.blockDim.x
            number += cuda.gridDim.x

    return squares
