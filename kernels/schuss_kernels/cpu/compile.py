"""The CPU engine of numba: rule and storage make a kernel for one row of the plan; one launcher runs any table of rows.

A kernel is freestanding: it takes the address of a row, works on addresses, allocates nothing, raises nothing and needs
no GIL.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numba import types

from ..engine import plan_engine
from ..engine.host import HostEngine
from ..lang.rule import Rule
from ..lowering import conversions, diagnostics, element
from ..plan import chunk_table, two_pass
from ..plan.chunk_table import (
    BLOCK,
    COUNT,
    GRAD,
    KERNEL,
    LAYOUT,
    MEASURE,
    MEASURED,
    PARAM,
    SCALARS,
    SQUARES,
    START,
    SUMS,
)
from ..storage import dtypes, quantization, stochastic_rounding
from ..storage.dtypes import Spec, Squares
from ..storage.quantization import SIZE
from . import finish, intrinsics, launcher, ndarray_headers, thread_pool
from .finish import all_running, all_scalars, all_sums, finished, write_finished
from .intrinsics import (
    add_squares,
    add_up,
    addresses,
    apply,
    close_block,
    gather,
    keep,
    load,
    measured,
    open_block,
    rider_numbers,
    room,
    row_key,
    rule_scalars,
    scratch,
    store,
    table,
    write_sums,
)
from .launcher import jit

_ROW = types.void(types.int64)
_lock = threading.RLock()
_kernels: dict[str, Any] = {}


def _after_fork() -> None:
    global _lock
    _lock = threading.RLock()  # a thread that compiled in the parent is not here to release it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _sources_digest() -> str:
    """Of the files whose change numba's cache would not see."""
    digest = hashlib.sha256()
    for module in (
        dtypes,
        quantization,
        chunk_table,
        two_pass,
        plan_engine,
        conversions,
        stochastic_rounding,
        element,
        intrinsics,
        finish,
    ):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


_SOURCES = _sources_digest()


def _dense(spec: str, parameter_bytes: int, gradient_bytes: int) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def dense(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start = row_key(spec, r, row), table(row, START)
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        for i in range(table(row, COUNT)):
            p_at, g_at = i * parameter_bytes, i * gradient_bytes
            p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, ())
            p, s = apply(spec, p, g, s, h)
            store(spec, parameter, p_at, gradient, g_at, others, i, p, s, r, (), key, start)

    return dense


def _dense_blocks(spec: str, parameter_bytes: int, gradient_bytes: int) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def dense_blocks(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start = row_key(spec, r, row), table(row, START)
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        waiting, count = scratch(), table(row, COUNT)
        for first in range(0, count, SIZE):
            last = min(first + SIZE, count)
            block = open_block(spec, others, waiting, first)
            for i in range(first, last):
                p_at, g_at = i * parameter_bytes, i * gradient_bytes
                p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, block)
                p, s = apply(spec, p, g, s, h)
                store(spec, parameter, p_at, gradient, g_at, others, i, p, s, r, block, key, start)
            close_block(spec, others, block, first, last, key, start)

    return dense_blocks


def _strided(spec: str, step: int) -> Any:
    """``step``: elements after which the block of the states in 8 bits is closed; more than there are, without such."""

    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def strided(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        key, start, others = row_key(spec, r, row), table(row, START), addresses(spec, row)
        walk, count = table(row, LAYOUT), table(row, COUNT)
        inner = table(walk, 0) - 1
        size, p_stride, g_stride = table(walk, 1 + 3 * inner), table(walk, 2 + 3 * inner), table(walk, 3 + 3 * inner)
        waiting = scratch()
        done = 0
        while done < count:
            # Where the walk stands: the element's index taken apart, innermost axis first.
            opened = done - done % step
            closes = min(opened + step, count)
            outer = (start + done) // size
            first = start + done - outer * size
            parameter = table(row, PARAM) + first * p_stride
            gradient = table(row, GRAD) + first * g_stride
            for axis in range(inner - 1, -1, -1):
                rest = outer // table(walk, 1 + 3 * axis)
                index = outer - rest * table(walk, 1 + 3 * axis)
                parameter += index * table(walk, 2 + 3 * axis)
                gradient += index * table(walk, 3 + 3 * axis)
                outer = rest
            block = open_block(spec, others, waiting, opened)
            run = min(size - first, closes - done)
            for i in range(run):
                p_at, g_at = i * p_stride, i * g_stride
                p, g, s = load(spec, parameter, p_at, gradient, g_at, others, done + i, r, block)
                p, s = apply(spec, p, g, s, h)
                store(spec, parameter, p_at, gradient, g_at, others, done + i, p, s, r, block, key, start)
            done += run
            if done == closes:
                close_block(spec, others, block, opened, closes, key, start)

    return strided


def _measure_dense(spec: str, parameter_bytes: int, gradient_bytes: int, sum_bytes: int) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def measure_dense(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        parameter, gradient, others = table(row, PARAM), table(row, GRAD), addresses(spec, row)
        kept, count = room(spec), table(row, COUNT)
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            for opened in range(first, last, SIZE):
                closes = min(opened + SIZE, last)
                block = open_block(spec, others, 0, opened)
                for i in range(opened, closes):
                    p_at, g_at = i * parameter_bytes, i * gradient_bytes
                    p, g, s = load(spec, parameter, p_at, gradient, g_at, others, i, r, block)
                    keep(spec, kept, i - opened, measured(spec, p, g, s, h))
                add_up(spec, kept, closes - opened, opened - first)
            write_sums(spec, kept, table(row, MEASURED) + first // BLOCK * sum_bytes)

    return measure_dense


def _measure_strided(spec: str, sum_bytes: int) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def measure_strided(row):
        h = rule_scalars(spec, table(row, SCALARS))
        r = rider_numbers(spec, table(row, SCALARS))
        start, others, walk = table(row, START), addresses(spec, row), table(row, LAYOUT)
        kept, count = room(spec), table(row, COUNT)
        for first in range(0, count, BLOCK):
            last = min(first + BLOCK, count)
            for opened in range(first, last, SIZE):
                closes = min(opened + SIZE, last)
                block = open_block(spec, others, 0, opened)
                for i in range(opened, closes):
                    rest, parameter, gradient = start + i, table(row, PARAM), table(row, GRAD)
                    for axis in range(table(walk, 0) - 1, -1, -1):
                        outer = rest // table(walk, 1 + 3 * axis)
                        index = rest - outer * table(walk, 1 + 3 * axis)
                        parameter += index * table(walk, 2 + 3 * axis)
                        gradient += index * table(walk, 3 + 3 * axis)
                        rest = outer
                    p, g, s = load(spec, parameter, 0, gradient, 0, others, i, r, block)
                    keep(spec, kept, i - opened, measured(spec, p, g, s, h))
                add_up(spec, kept, closes - opened, opened - first)
            write_sums(spec, kept, table(row, MEASURED) + first // BLOCK * sum_bytes)

    return measure_strided


def _squares_dense(code: str, size: int, digest: str) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def squares(row):
        digest  # noqa: B018  (part of what the kernel is, to numba's cache)
        gradient, sums, count = table(row, GRAD), table(row, SUMS), table(row, COUNT)
        for first in range(0, count, BLOCK):
            add_squares(code, gradient + first * size, min(BLOCK, count - first), sums + first // BLOCK * 16)

    return squares


def _squares_strided(code: str, digest: str) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def squares(row):
        digest  # noqa: B018
        walk, count, dense = table(row, LAYOUT), table(row, COUNT), scratch()
        for first in range(0, count, BLOCK):
            here = min(BLOCK, count - first)
            for i in range(here):
                rest, gradient = table(row, START) + first + i, table(row, GRAD)
                for axis in range(table(walk, 0) - 1, -1, -1):
                    outer = rest // table(walk, 1 + 3 * axis)
                    gradient += (rest - outer * table(walk, 1 + 3 * axis)) * table(walk, 3 + 3 * axis)
                    rest = outer
                gather(code, gradient, dense, i)
            add_squares(code, dense, here, table(row, SUMS) + first // BLOCK * 16)

    return squares


def squares_kernel(wanted: Squares) -> int:
    """The address of the kernel that adds up squares of gradients."""
    return compiled_squares(wanted)[1]


def compiled_squares(wanted: Squares) -> tuple[Any, int]:
    """The numba dispatcher behind such a kernel, and its address."""
    text = f"{wanted.form}#{_SOURCES}"
    if text in _kernels:
        return _kernels[text]
    with _lock:
        if text not in _kernels:
            code, size = wanted.gradient.code, wanted.gradient.itemsize
            made = _squares_strided(code, _SOURCES) if wanted.strided else _squares_dense(code, size, _SOURCES)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def _finish(text: str) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def finish(row):
        h, sums = all_scalars(text, table(row, two_pass.SCALARS)), all_sums(text, table(row, two_pass.FOLDED))
        made = finished(text, h, sums, table(row, two_pass.STEP), all_running(text, table(row, two_pass.RUNNING)))
        write_finished(
            text, made, table(row, two_pass.SCALARS), table(row, two_pass.SINGLES), table(row, two_pass.RUNNING)
        )

    return finish


def compiled_finish(rule: Rule) -> tuple[Any, int]:
    """The numba dispatcher behind the kernel that finishes a row of :mod:`.turns`, and its address."""
    text = f"{rule.finish_key}#{_SOURCES}"
    with _lock:
        if text not in _kernels:
            finish.FINISHERS[text] = rule
            made = _finish(text)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def _address(made: Any) -> int:
    made.compile(_ROW)
    result = made.overloads[_ROW.args]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def kernel(rule: Rule, spec: Spec) -> int:
    """The address of the compiled kernel; compiled or read from the disk cache on first use.

    Raises
    ------
    RuleError
        When the rule's update cannot be compiled, returns other states than it has, or computes in float64.
    """
    return compiled(rule, spec)[1]


def compiled(rule: Rule, spec: Spec) -> tuple[Any, int]:
    """The numba dispatcher behind a kernel, and its address."""
    text = f"{spec}#{_SOURCES}"
    if text in _kernels:
        return _kernels[text]
    with _lock, diagnostics.told_in_the_rules_words(rule, spec):
        if text not in _kernels:  # another thread may have been first; a kernel in use must not be replaced
            intrinsics.KNOWN[text] = (spec, rule)
            sizes = (spec.parameter.itemsize, spec.gradient.itemsize)
            if spec.measure:
                sums = 8 * len(rule.Sums._fields)
                made = _measure_strided(text, sums) if spec.strided else _measure_dense(text, *sizes, sums)
            elif spec.strided:
                made = _strided(text, SIZE if spec.in_blocks else 1 << 62)
            else:
                made = (_dense_blocks if spec.in_blocks else _dense)(text, *sizes)
            _check_before_saving(made, rule, spec)
            _kernels[text] = made, _address(made)
        return _kernels[text]


def _check_before_saving(made: Any, rule: Rule, spec: Spec) -> None:
    """What is in the disk cache has passed the check, so what comes from it needs none."""
    save = made._cache.save_overload

    def checked(signature: Any, result: Any) -> None:
        diagnostics.kernel_is_plain(rule, spec, result.library)
        save(signature, result)

    made._cache.save_overload = checked


class CpuEngine(HostEngine):
    """Kernels compiled by numba when they are first used, and numba's launcher."""

    name = "numba"

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return kernel(rule, spec)

    def squares_kernel(self, wanted: Squares) -> int:
        return squares_kernel(wanted)

    def ready(self) -> None:
        rows, spans = self.plan.rows, self.plan.spans
        self._arguments = ndarray_headers.arguments(self.expected, rows)
        self._table = (int(rows.ctypes.data), rows.strides[0] if rows.size else 0)
        self._counters = np.zeros((self.workers, thread_pool.LINE // 8), np.int64)
        self._spans = (int(spans.ctypes.data), len(spans) - 1, int(self._counters.ctypes.data))
        self._clock = int(self.clock.ctypes.data)
        self._spare = np.zeros(1, np.int64)  # a clock for launches that move nothing

    def try_step(self, gradients: list[Any]) -> bool:
        if not ndarray_headers.USABLE or len(gradients) != len(self.tensors):
            return False
        if self.small:
            return launcher.refresh_and_run(
                id(gradients), self.zero, *self._arguments, len(self.plan.rows), self._clock
            )
        gradients = list(gradients)  # others may change the caller's list, and drop its arrays, during the launch
        if not self.try_place(gradients):
            return False
        self.launch()
        return True

    def try_place(self, gradients: list[Any]) -> bool:
        count = len(self.tensors)
        if not ndarray_headers.USABLE or len(gradients) != count:
            return False
        return launcher.refresh(id(gradients), self.zero, *self._arguments) == count

    def launch(self) -> None:
        self._run(KERNEL, self._clock)

    def add_squares(self) -> None:
        self._run(SQUARES, int(self._spare.ctypes.data))

    def add_measures(self) -> None:
        self._run(MEASURE, int(self._spare.ctypes.data))

    def _run(self, column: int, clock: int) -> None:
        last = len(self.plan.rows)
        if self.workers > 1:
            launcher.run(*self._table, last, *self._spans, self.workers, clock, column)
        else:
            launcher.run_alone(*self._table, 0, last, clock, column)
