"""The CUDA kernels: one grid goes through the rows of the plan that have one spec.

Compiled and simulated kernels are the same Python below; only the intrinsics that they call differ.
"""

from __future__ import annotations

from typing import Any

from numba import cuda

from ..plan.chunk_table import COUNT, GRAD, LAYOUT, MEASURED, PARAM, REDUCE_BLOCK, SCALARS, START, SUMS
from ..plan.reduce import LANES
from ..plan.spec import GradSquares, Spec
from ..storage.quantization import QUANT_BLOCK

SLICE = 4096
"""Elements of a row that one thread block processes. A row of the plan is cut into such slices, so that a model of few
large tensors still gives every multiprocessor work."""

WARP = 32
"""Threads that can exchange registers. With quantized states they do, and each warp processes one quantization block at
a time. Thread blocks are multiples of it."""


def _dense(intrinsics: Any, spec: Spec) -> Any:
    load_int64, addresses, misaligned = intrinsics.load_int64, intrinsics.addresses, intrinsics.misaligned
    rider_numbers, rule_scalars, row_key = intrinsics.rider_numbers, intrinsics.rule_scalars, intrinsics.row_key
    update_one, update_lanes, lanes = intrinsics.update_one, intrinsics.update_lanes, intrinsics.lanes
    p_size, g_size = spec.parameter.itemsize, spec.gradient.itemsize

    def dense(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, load_int64(row, COUNT))
            gradient = load_int64(row, GRAD)
            if gradient != 0 and first < last:
                h = rule_scalars(load_int64(row, SCALARS))
                r = rider_numbers(load_int64(row, SCALARS))
                key, start = row_key(r, row), load_int64(row, START)
                parameter, others = load_int64(row, PARAM), addresses(row)
                whole = first
                if misaligned(parameter, gradient, others) == 0:
                    whole = last - last % lanes  # a slice starts at a multiple of the lanes
                i = first + cuda.threadIdx.x * lanes
                while i < whole:
                    update_lanes(parameter + i * p_size, gradient + i * g_size, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x * lanes
                i = whole + cuda.threadIdx.x
                while i < last:
                    update_one(parameter + i * p_size, gradient + i * g_size, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return dense


def _strided(intrinsics: Any) -> Any:
    load_int64, addresses, update_one = intrinsics.load_int64, intrinsics.addresses, intrinsics.update_one
    locate = intrinsics.inlined(locator(load_int64))
    rider_numbers, rule_scalars, row_key = intrinsics.rider_numbers, intrinsics.rule_scalars, intrinsics.row_key

    def strided(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, load_int64(row, COUNT))
            if load_int64(row, GRAD) != 0 and first < last:
                h = rule_scalars(load_int64(row, SCALARS))
                r = rider_numbers(load_int64(row, SCALARS))
                key, start, others = row_key(r, row), load_int64(row, START), addresses(row)
                i = first + cuda.threadIdx.x
                while i < last:
                    parameter, gradient = locate(row, i)
                    update_one(parameter, gradient, others, i, r, h, key, start + i)
                    i += cuda.blockDim.x
            number += cuda.gridDim.x

    return strided


def _quantized(intrinsics: Any) -> Any:
    load_int64, addresses = intrinsics.load_int64, intrinsics.addresses
    rider_numbers, rule_scalars, row_key = intrinsics.rider_numbers, intrinsics.rule_scalars, intrinsics.row_key
    open_block, block_peaks, close_block = intrinsics.open_block, intrinsics.block_peaks, intrinsics.close_block

    def quantized(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, load_int64(row, COUNT))
            if load_int64(row, GRAD) != 0:
                h = rule_scalars(load_int64(row, SCALARS))
                r = rider_numbers(load_int64(row, SCALARS))
                key, start, others = row_key(r, row), load_int64(row, START), addresses(row)
                opened = first + cuda.threadIdx.x // WARP * QUANT_BLOCK
                while opened < last:  # all threads of a warp or none: block_peaks() needs all
                    i = opened + cuda.threadIdx.x % WARP
                    closes = min(opened + QUANT_BLOCK, last)
                    values = open_block(row, others, i, closes, r, h, key, start)
                    close_block(others, i, closes, values, block_peaks(values), key, start)
                    opened += cuda.blockDim.x // WARP * QUANT_BLOCK
            number += cuda.gridDim.x

    return quantized


def locator(load_int64: Any) -> Any:
    """Make the function that finds an element of a strided row.

    It takes the row's address and the element's index in the row, and returns the addresses of its parameter and
    gradient.
    """

    def locate(row, index):
        layout, rest = load_int64(row, LAYOUT), load_int64(row, START) + index
        parameter, gradient = load_int64(row, PARAM), load_int64(row, GRAD)
        # The element's number in the tensor is taken apart, innermost axis first.
        axis = load_int64(layout, 0) - 1
        while axis >= 0:
            outer = rest // load_int64(layout, 1 + 3 * axis)
            index = rest - outer * load_int64(layout, 1 + 3 * axis)
            parameter += index * load_int64(layout, 2 + 3 * axis)
            gradient += index * load_int64(layout, 3 + 3 * axis)
            rest = outer
            axis -= 1
        return parameter, gradient

    return locate


def source(intrinsics: Any, spec: Spec) -> Any:
    """Make a spec's kernel: a Python function of (rows' address, bytes from row to row, number of rows)."""
    if spec.measure:
        return _measure(intrinsics, spec)
    if spec.quantized_states:
        return _quantized(intrinsics)
    return _strided(intrinsics) if spec.strided else _dense(intrinsics, spec)


def _measure(intrinsics: Any, spec: Spec) -> Any:
    """Make the kernel that sums a rule's measure, in the order in which :func:`squares_source` sums squares."""
    load_int64, addresses, store_sums = intrinsics.load_int64, intrinsics.addresses, intrinsics.store_sums
    rider_numbers, rule_scalars = intrinsics.rider_numbers, intrinsics.rule_scalars
    no_sums, add_measured = intrinsics.no_sums, intrinsics.add_measured
    locate = intrinsics.inlined(locator(load_int64))
    p_size, g_size, strided = spec.parameter.itemsize, spec.gradient.itemsize, spec.strided

    def measure(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, load_int64(row, COUNT))
            if load_int64(row, GRAD) != 0 and first < last:
                h = rule_scalars(load_int64(row, SCALARS))
                r = rider_numbers(load_int64(row, SCALARS))
                others, part = addresses(row), cuda.threadIdx.x
                while part // LANES * REDUCE_BLOCK < last - first:
                    block, lane = first // REDUCE_BLOCK + part // LANES, part % LANES
                    sums = no_sums()
                    i = block * REDUCE_BLOCK + lane
                    while i < min(block * REDUCE_BLOCK + REDUCE_BLOCK, last):
                        if strided:
                            parameter, gradient = locate(row, i)
                        else:
                            parameter = load_int64(row, PARAM) + i * p_size
                            gradient = load_int64(row, GRAD) + i * g_size
                        sums = add_measured(sums, parameter, gradient, others, i, r, h)
                        i += LANES
                    store_sums(load_int64(row, MEASURED), block * LANES + lane, sums)
                    part += cuda.blockDim.x
            number += cuda.gridDim.x

    return measure


def squares_source(intrinsics: Any, wanted: GradSquares) -> Any:
    """Make the kernel that sums the squares of gradients.

    Each thread sums one of the LANES of a REDUCE_BLOCK, so that neighbouring threads read neighbouring elements. It
    stores the sum, and 0.0, or NaN where a gradient is not finite. The lanes are added up on the host.
    """
    load_int64, load_gradient, store = intrinsics.load_int64, intrinsics.load_gradient, intrinsics.store
    size, strided, locate = wanted.gradient.itemsize, wanted.strided, intrinsics.inlined(locator(load_int64))

    def squares(rows, width, count):
        number = cuda.blockIdx.x
        while number < count:
            row = rows + number * width
            first = cuda.blockIdx.y * SLICE
            last = min(first + SLICE, load_int64(row, COUNT))
            gradient = load_int64(row, GRAD)
            if gradient != 0 and first < last:
                part = cuda.threadIdx.x
                while part // LANES * REDUCE_BLOCK < last - first:
                    block, lane = first // REDUCE_BLOCK + part // LANES, part % LANES
                    total, difference = 0.0, 0.0
                    i = block * REDUCE_BLOCK + lane
                    while i < min(block * REDUCE_BLOCK + REDUCE_BLOCK, last):
                        address = locate(row, i)[1] if strided else gradient + i * size
                        value = load_gradient(address)
                        total += value * value
                        difference += value - value
                        i += LANES
                    store(load_int64(row, SUMS), (block * LANES + lane) * 2, total)
                    store(load_int64(row, SUMS), (block * LANES + lane) * 2 + 1, difference)
                    part += cuda.blockDim.x
            number += cuda.gridDim.x

    return squares
