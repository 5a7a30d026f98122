"""The CPU kernels: functions of the address of a row, of the chunk table or of the two-pass table.

A kernel is freestanding: it works on addresses, allocates nothing, raises nothing and does not need the GIL. Its loops
call :mod:`.intrinsics`, which generate the code of a spec.

In a strided layout, ``table(layout, 0)`` is the number of axes; of axis ``a`` ``table(layout, 1 + 3 * a)`` is the size,
and the next two are the strides of parameter and gradient (:mod:`..plan.chunk_table`).
"""

from __future__ import annotations

import hashlib
from typing import Any

from ..lang import digest
from ..plan import two_pass
from ..plan.chunk_table import (
    COUNT,
    GRAD,
    LAYOUT,
    MEASURED,
    PARAM,
    REDUCE_BLOCK,
    SCALARS,
    START,
    SUMS,
)
from ..storage.quantization import QUANT_BLOCK
from .finish import call_finish, read_running, read_scalars, read_sums, store_finished
from .intrinsics import (
    add_measures,
    addresses,
    block_buffer,
    close_block,
    copy_gradient,
    load,
    measure_buffer,
    measure_element,
    open_block,
    rider_numbers,
    row_key,
    rule_scalars,
    store,
    store_measure,
    store_squares,
    store_sums,
    update_element,
)
from .jit import jit
from .machine import table


def _cached(text: str) -> Any:
    """Compile a kernel with a disk cache of its own, named after ``text``, which says all that it is.

    Numba keeps what it compiled of one function in numbered files and their numbers in an index, and locks neither: two
    processes that compile different kernels of one loop at once may take the same number, and find each other's code.
    """

    def wrap(loop: Any) -> Any:
        loop.__qualname__ += f"_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        keep = digest.is_lasting(text)
        return jit(keep, nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(loop)

    return wrap


def dense_kernel(spec: str, parameter_bytes: int, gradient_bytes: int) -> Any:
    """Return the kernel that updates a dense tensor. The sizes are bytes of an element."""

    @_cached(spec)
    def dense(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start = row_key(spec, r, row), table(row, START)
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        for i in range(table(row, COUNT)):
            p_at, g_at = i * parameter_bytes, i * gradient_bytes
            p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, ())
            p, s = update_element(spec, p, g, s, h)
            store(spec, parameter, p_at, gradient, g_at, others, i, p, s, r, (), key, start)

    return dense


def quantized_kernel(spec: str, parameter_bytes: int, gradient_bytes: int) -> Any:
    """Return the kernel that updates a dense tensor with quantized states, one quantization block after the other."""

    @_cached(spec)
    def quantized(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start = row_key(spec, r, row), table(row, START)
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        buffer, count = block_buffer(), table(row, COUNT)
        for first in range(0, count, QUANT_BLOCK):
            last = min(first + QUANT_BLOCK, count)
            block = open_block(spec, others, buffer, first)
            for i in range(first, last):
                p_at, g_at = i * parameter_bytes, i * gradient_bytes
                p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, block)
                p, s = update_element(spec, p, g, s, h)
                store(spec, parameter, p_at, gradient, g_at, others, i, p, s, r, block, key, start)
            close_block(spec, others, block, first, last, key, start)

    return quantized


def strided_kernel(spec: str, block_size: int) -> Any:
    """Return the kernel that updates a strided tensor, one run of elements along the innermost axis after the other.

    ``block_size``: elements in a quantization block; where no state is quantized, more than a row has.
    """

    @_cached(spec)
    def strided(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start, others = row_key(spec, r, row), table(row, START), addresses(spec, row)
        layout, count = table(row, LAYOUT), table(row, COUNT)
        inner = table(layout, 0) - 1
        size = table(layout, 1 + 3 * inner)
        p_stride, g_stride = table(layout, 2 + 3 * inner), table(layout, 3 + 3 * inner)
        buffer = block_buffer()
        done = 0
        while done < count:
            opened = done - done % block_size
            closes = min(opened + block_size, count)
            # The element's number split into an index for each axis, from the innermost outwards.
            outer = (start + done) // size
            first = start + done - outer * size
            parameter = table(row, PARAM) + first * p_stride
            gradient = table(row, GRAD) + first * g_stride
            for axis in range(inner - 1, -1, -1):
                rest = outer // table(layout, 1 + 3 * axis)
                index = outer - rest * table(layout, 1 + 3 * axis)
                parameter += index * table(layout, 2 + 3 * axis)
                gradient += index * table(layout, 3 + 3 * axis)
                outer = rest
            block = open_block(spec, others, buffer, opened)
            run = min(size - first, closes - done)
            for i in range(run):
                p_at, g_at = i * p_stride, i * g_stride
                p, g, s = load(spec, parameter, p_at, gradient, g_at, others, done + i, r, block)
                p, s = update_element(spec, p, g, s, h)
                store(spec, parameter, p_at, gradient, g_at, others, done + i, p, s, r, block, key, start)
            done += run
            if done == closes:
                close_block(spec, others, block, opened, closes, key, start)

    return strided


def dense_measure_kernel(spec: str, parameter_bytes: int, gradient_bytes: int, sum_bytes: int) -> Any:
    """Return the kernel that adds up the rule's measure of a dense tensor.

    ``sum_bytes``: bytes of the sums of one reduction block.
    """

    @_cached(spec)
    def measure_dense(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        buffer, count = measure_buffer(spec), table(row, COUNT)
        for first in range(0, count, REDUCE_BLOCK):
            last = min(first + REDUCE_BLOCK, count)
            for opened in range(first, last, QUANT_BLOCK):
                closes = min(opened + QUANT_BLOCK, last)
                block = open_block(spec, others, 0, opened)
                for i in range(opened, closes):
                    p_at, g_at = i * parameter_bytes, i * gradient_bytes
                    p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, block)
                    store_measure(spec, buffer, i - opened, measure_element(spec, p, g, s, h))
                add_measures(spec, buffer, closes - opened, opened - first)
            store_sums(spec, buffer, table(row, MEASURED) + first // REDUCE_BLOCK * sum_bytes)

    return measure_dense


def strided_measure_kernel(spec: str, sum_bytes: int) -> Any:
    """Return the kernel that adds up the rule's measure of a strided tensor."""

    @_cached(spec)
    def measure_strided(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        start, others, layout = table(row, START), addresses(spec, row), table(row, LAYOUT)
        buffer, count = measure_buffer(spec), table(row, COUNT)
        for first in range(0, count, REDUCE_BLOCK):
            last = min(first + REDUCE_BLOCK, count)
            for opened in range(first, last, QUANT_BLOCK):
                closes = min(opened + QUANT_BLOCK, last)
                block = open_block(spec, others, 0, opened)
                for i in range(opened, closes):
                    rest, parameter, gradient = start + i, table(row, PARAM), table(row, GRAD)
                    for axis in range(table(layout, 0) - 1, -1, -1):
                        outer = rest // table(layout, 1 + 3 * axis)
                        index = rest - outer * table(layout, 1 + 3 * axis)
                        parameter += index * table(layout, 2 + 3 * axis)
                        gradient += index * table(layout, 3 + 3 * axis)
                        rest = outer
                    p, g, s = load(spec, parameter, 0, gradient, 0, others, i, r, block)
                    store_measure(spec, buffer, i - opened, measure_element(spec, p, g, s, h))
                add_measures(spec, buffer, closes - opened, opened - first)
            store_sums(spec, buffer, table(row, MEASURED) + first // REDUCE_BLOCK * sum_bytes)

    return measure_strided


def dense_squares_kernel(code: str, size: int) -> Any:
    """Return the kernel that adds up the squares of a dense gradient of storage ``code``, ``size`` bytes an element."""

    @_cached(code)
    def squares(row):
        gradient, sums, count = table(row, GRAD), table(row, SUMS), table(row, COUNT)
        for first in range(0, count, REDUCE_BLOCK):
            here = min(REDUCE_BLOCK, count - first)
            store_squares(code, gradient + first * size, here, sums + first // REDUCE_BLOCK * 16)

    return squares


def strided_squares_kernel(code: str) -> Any:
    """Return the kernel that adds up the squares of a strided gradient.

    It copies each reduction block to a dense buffer first.
    """

    @_cached(code)
    def squares(row):
        layout, count, buffer = table(row, LAYOUT), table(row, COUNT), block_buffer()
        for first in range(0, count, REDUCE_BLOCK):
            here = min(REDUCE_BLOCK, count - first)
            for i in range(here):
                rest, gradient = table(row, START) + first + i, table(row, GRAD)
                for axis in range(table(layout, 0) - 1, -1, -1):
                    outer = rest // table(layout, 1 + 3 * axis)
                    gradient += (rest - outer * table(layout, 1 + 3 * axis)) * table(layout, 3 + 3 * axis)
                    rest = outer
                copy_gradient(code, gradient, buffer, i)
            store_squares(code, buffer, here, table(row, SUMS) + first // REDUCE_BLOCK * 16)

    return squares


def finish_kernel(text: str) -> Any:
    """Return the kernel that calls a rule's ``finish`` for a row of the two-pass table."""

    @_cached(text)
    def finish(row):
        scalars64, scalars32 = table(row, two_pass.SCALARS64), table(row, two_pass.SCALARS32)
        h, sums = read_scalars(text, scalars64), read_sums(text, table(row, two_pass.FOLDED))
        running = table(row, two_pass.RUNNING)
        returned = call_finish(text, h, sums, table(row, two_pass.STEP), read_running(text, running))
        store_finished(text, returned, scalars64, scalars32, running)

    return finish
