"""The CUDA kernel: one grid walks the rows of the plan that have one spec.

Compiled and simulated kernels are the same Python below; only the words they are written in differ.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from .plan import COUNT, GRAD, LAYOUT, PARAM, SCALARS, START, STATES
from .storage import Spec

SLICE = 4096
"""Elements of a row that a block takes at once. A row of the plan is cut into such slices, so that a model of few large
tensors still gives every multiprocessor work."""


def _dense(words: Any, spec: Spec) -> Any:
    table, state_addresses, misaligned = words.table, words.state_addresses, words.misaligned
    gradient_scale, rule_scalars = words.gradient_scale, words.rule_scalars
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
                scale = gradient_scale(table(row, SCALARS))
                parameter, states = table(row, PARAM), state_addresses(row, STATES)
                whole = first
                if misaligned(parameter, gradient, states) == 0:
                    whole = last - last % lanes  # a slice starts at a multiple of the lanes
                i = first + cuda.threadIdx.x * lanes
                while i < whole:
                    move_lanes(parameter + i * p_size, gradient + i * g_size, states, i, scale, h)
                    i += cuda.blockDim.x * lanes
                i = whole + cuda.threadIdx.x
                while i < last:
                    move_one(parameter + i * p_size, gradient + i * g_size, states, i, scale, h)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return dense


def _strided(words: Any) -> Any:
    table, state_addresses, move_one = words.table, words.state_addresses, words.move_one
    gradient_scale, rule_scalars = words.gradient_scale, words.rule_scalars

    def strided(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, table(row, COUNT))
            if table(row, GRAD) != 0 and first < last:
                h = rule_scalars(table(row, SCALARS))
                scale = gradient_scale(table(row, SCALARS))
                states, walk = state_addresses(row, STATES), table(row, LAYOUT)
                i = first + cuda.threadIdx.x
                while i < last:
                    # The element's index in the walk taken apart, innermost axis first.
                    parameter, gradient, rest = table(row, PARAM), table(row, GRAD), table(row, START) + i
                    axis = table(walk, 0) - 1
                    while axis >= 0:
                        outer = rest // table(walk, 1 + 3 * axis)
                        index = rest - outer * table(walk, 1 + 3 * axis)
                        parameter += index * table(walk, 2 + 3 * axis)
                        gradient += index * table(walk, 3 + 3 * axis)
                        rest = outer
                        axis -= 1
                    move_one(parameter, gradient, states, i, scale, h)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return strided


def source(words: Any, spec: Spec) -> Any:
    """The kernel as a Python function of (rows' address, bytes from row to row, number of rows)."""
    return _strided(words) if spec.strided else _dense(words, spec)
