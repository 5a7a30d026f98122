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

from . import check, headers, intrinsics, launch, lowering, storage
from .host import HostEngine
from .intrinsics import (
    apply,
    gradient_scale,
    load,
    load_state,
    rule_scalars,
    state_addresses,
    store,
    store_state,
    table,
)  # fmt: skip
from .launch import jit
from .plan import COUNT, GRAD, LAYOUT, PARAM, SCALARS, START, STATES
from .rule import Rule
from .storage import Spec

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
    for module in (storage, lowering, intrinsics):
        digest.update(Path(str(module.__file__)).read_bytes())
    return digest.hexdigest()[:16]


_SOURCES = _sources_digest()


def _dense(spec: str, parameter_bytes: int, gradient_bytes: int) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def dense(row):
        h = rule_scalars(spec, table(row, SCALARS))
        scale = gradient_scale(spec, table(row, SCALARS))
        parameter, gradient = table(row, PARAM), table(row, GRAD)
        states = state_addresses(spec, row, STATES)
        for i in range(table(row, COUNT)):
            p = load(spec, 0, parameter, i * parameter_bytes)
            g = load(spec, 1, gradient, i * gradient_bytes) * scale
            p, s = apply(spec, p, g, load_state(spec, states, i), h)
            store(spec, 0, parameter, i * parameter_bytes, p)
            store_state(spec, states, i, s)

    return dense


def _strided(spec: str) -> Any:
    @jit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def strided(row):
        h = rule_scalars(spec, table(row, SCALARS))
        scale = gradient_scale(spec, table(row, SCALARS))
        states = state_addresses(spec, row, STATES)
        walk, count = table(row, LAYOUT), table(row, COUNT)
        inner = table(walk, 0) - 1
        size, p_stride, g_stride = table(walk, 1 + 3 * inner), table(walk, 2 + 3 * inner), table(walk, 3 + 3 * inner)
        done = 0
        while done < count:
            # Where the walk stands: the element's index taken apart, innermost axis first.
            outer = (table(row, START) + done) // size
            first = table(row, START) + done - outer * size
            parameter = table(row, PARAM) + first * p_stride
            gradient = table(row, GRAD) + first * g_stride
            for axis in range(inner - 1, -1, -1):
                rest = outer // table(walk, 1 + 3 * axis)
                index = outer - rest * table(walk, 1 + 3 * axis)
                parameter += index * table(walk, 2 + 3 * axis)
                gradient += index * table(walk, 3 + 3 * axis)
                outer = rest
            run = min(size - first, count - done)
            for i in range(run):
                p = load(spec, 0, parameter, i * p_stride)
                g = load(spec, 1, gradient, i * g_stride) * scale
                p, s = apply(spec, p, g, load_state(spec, states, done + i), h)
                store(spec, 0, parameter, i * p_stride, p)
                store_state(spec, states, done + i, s)
            done += run

    return strided


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
    with _lock, check.told_in_the_rules_words(rule, spec):
        if text not in _kernels:  # another thread may have been first; a kernel in use must not be replaced
            intrinsics.KNOWN[text] = (spec, rule)
            sizes = (spec.parameter.itemsize, spec.gradient.itemsize)
            made = _strided(text) if spec.strided else _dense(text, *sizes)
            _check_before_saving(made, rule, spec)
            made.compile(_ROW)
            result = made.overloads[_ROW.args]
            address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
            _kernels[text] = made, int(address)
        return _kernels[text]


def _check_before_saving(made: Any, rule: Rule, spec: Spec) -> None:
    """What is in the disk cache has passed the check, so what comes from it needs none."""
    save = made._cache.save_overload

    def checked(signature: Any, result: Any) -> None:
        check.kernel_is_plain(rule, spec, result.library)
        save(signature, result)

    made._cache.save_overload = checked


class CpuEngine(HostEngine):
    """Kernels compiled by numba when they are first used, and numba's launcher."""

    name = "numba"

    def kernel(self, rule: Rule, spec: Spec) -> int:
        return kernel(rule, spec)

    def ready(self) -> None:
        rows, spans = self.plan.rows, self.plan.spans
        self._arguments = headers.arguments(self.expected, rows)
        self._table = (int(rows.ctypes.data), rows.strides[0] if rows.size else 0)
        self._counter = np.zeros(1, np.int64)
        self._spans = (int(spans.ctypes.data), len(spans) - 1, int(self._counter.ctypes.data))
        self._clock = int(self.clock.ctypes.data)

    def try_step(self, gradients: list[Any]) -> bool:
        if not headers.USABLE or len(gradients) != len(self.tensors):
            return False
        if self.small:
            return launch.refresh_and_run(id(gradients), *self._arguments, len(self.plan.rows), self._clock)
        gradients = list(gradients)  # others may change the caller's list, and drop its arrays, during the launch
        if launch.refresh(id(gradients), *self._arguments) != len(self.tensors):
            return False
        self.launch()
        return True

    def launch(self) -> None:
        last = len(self.plan.rows)
        if self.workers > 1:
            launch.run(*self._table, last, *self._spans, self.workers, self._clock)
        else:
            launch.run_alone(*self._table, 0, last, self._clock)
