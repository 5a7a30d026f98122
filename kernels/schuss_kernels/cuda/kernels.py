"""The CUDA kernel: one grid walks the rows of the plan that have one spec.

Compiled and simulated kernels are the same Python below; only the words they are written in differ.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..plan.chunk_table import BLOCK, COUNT, GRAD, LAYOUT, MEASURED, PARAM, SCALARS, START, SUMS
from ..plan.reduce import LANES
from ..plan.spec import Spec, Squares
from ..storage.quantization import SIZE

SLICE = 4096
"""Elements of a row that a block takes at once. A row of the plan is cut into such slices, so that a model of few large
tensors still gives every multiprocessor work."""

WARP = 32
"""Threads that can exchange numbers without memory, and do so where states are in 8 bits: each works on a block of
them. Blocks of threads are multiples of it."""


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
    table, addresses, move_one, place = words.table, words.addresses, words.move_one, words.inlined(walker(words.table))
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
                key, start, others = row_key(r, row), table(row, START), addresses(row)
                i = first + cuda.threadIdx.x
                while i < last:
                    parameter, gradient = place(row, i)
                    move_one(parameter, gradient, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return strided


def _blocks(words: Any) -> Any:
    table, addresses = words.table, words.addresses
    rider_numbers, rule_scalars, row_key = words.rider_numbers, words.rule_scalars, words.row_key
    open_block, largest, close_block = words.open_block, words.largest, words.close_block

    def blocks(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            if table(row, GRAD) != 0:
                h = rule_scalars(table(row, SCALARS))
                r = rider_numbers(table(row, SCALARS))
                key, start, others = row_key(r, row), table(row, START), addresses(row)
                opened = first + cuda.threadIdx.x // WARP * SIZE
                while opened < last:  # all of a warp or none: they meet in largest()
                    i = opened + cuda.threadIdx.x % WARP
                    closes = min(opened + SIZE, last)
                    values = open_block(row, others, i, closes, r, h, key, start)
                    close_block(others, i, closes, values, largest(values), key, start)
                    opened += cuda.blockDim.x // WARP * SIZE
            number += cuda.gridDim.x

    return blocks


def walker(table: Any) -> Any:
    """Where an element of a strided row lies, as a function in the same words: (row, index) -> the addresses of its
    parameter and gradient."""

    def place(row, index):
        walk, rest = table(row, LAYOUT), table(row, START) + index
        parameter, gradient = table(row, PARAM), table(row, GRAD)
        # The element's index in the walk taken apart, innermost axis first.
        axis = table(walk, 0) - 1
        while axis >= 0:
            outer = rest // table(walk, 1 + 3 * axis)
            index = rest - outer * table(walk, 1 + 3 * axis)
            parameter += index * table(walk, 2 + 3 * axis)
            gradient += index * table(walk, 3 + 3 * axis)
            rest = outer
            axis -= 1
        return parameter, gradient

    return place


def source(words: Any, spec: Spec) -> Any:
    """The kernel as a Python function of (rows' address, bytes from row to row, number of rows)."""
    if spec.measure:
        return _measure(words, spec)
    if spec.in_blocks:
        return _blocks(words)
    return _strided(words) if spec.strided else _dense(words, spec)


def _measure(words: Any, spec: Spec) -> Any:
    """Adds up a rule's measure, as :func:`squares_source` adds up squares."""
    table, addresses, write_sums = words.table, words.addresses, words.write_sums
    rider_numbers, rule_scalars = words.rider_numbers, words.rule_scalars
    no_sums, add_measured, place = words.no_sums, words.add_measured, words.inlined(walker(words.table))
    p_size, g_size, strided = spec.parameter.itemsize, spec.gradient.itemsize, spec.strided

    def measure(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            if table(row, GRAD) != 0 and first < last:
                h = rule_scalars(table(row, SCALARS))
                r = rider_numbers(table(row, SCALARS))
                others, turn = addresses(row), cuda.threadIdx.x
                while turn // LANES * BLOCK < last - first:
                    block, lane = first // BLOCK + turn // LANES, turn % LANES
                    sums = no_sums()
                    i = block * BLOCK + lane
                    while i < min(block * BLOCK + BLOCK, last):
                        if strided:
                            parameter, gradient = place(row, i)
                        else:
                            parameter, gradient = table(row, PARAM) + i * p_size, table(row, GRAD) + i * g_size
                        sums = add_measured(sums, parameter, gradient, others, i, r, h)
                        i += LANES
                    write_sums(table(row, MEASURED), block * LANES + lane, sums)
                    turn += cuda.blockDim.x
            number += cuda.gridDim.x

    return measure


def squares_source(words: Any, wanted: Squares) -> Any:
    """The kernel that adds up squares: a thread takes one of the LANES of a BLOCK and writes its sum, and whether all
    are finite (0.0 or NaN); the sums are folded on the host. Neighbouring threads read neighbouring elements."""
    table, gradient_at, write = words.table, words.gradient, words.write
    size, strided, place = wanted.gradient.itemsize, wanted.strided, words.inlined(walker(words.table))

    def squares(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            gradient = table(row, GRAD)
            if gradient != 0 and first < last:
                turn = cuda.threadIdx.x
                while turn // LANES * BLOCK < last - first:
                    block, lane = first // BLOCK + turn // LANES, turn % LANES
                    total, odd = 0.0, 0.0
                    i = block * BLOCK + lane
                    while i < min(block * BLOCK + BLOCK, last):
                        address = place(row, i)[1] if strided else gradient + i * size
                        value = gradient_at(address)
                        total += value * value
                        odd += value - value
                        i += LANES
                    write(table(row, SUMS), (block * LANES + lane) * 2, total)
                    write(table(row, SUMS), (block * LANES + lane) * 2 + 1, odd)
                    turn += cuda.blockDim.x
            number += cuda.gridDim.x

    return squares
