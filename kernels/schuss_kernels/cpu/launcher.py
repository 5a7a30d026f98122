"""The launcher where there is no C extension: the rows of a table on the calling thread, or in numba's ``prange``.

Compiled once for all rules: a kernel is the address in a row's KERNEL column. The bits are the same whoever runs a row.
The extension's launcher does more: its helpers are never waited for, and it finds gradients without Python.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

import numba
from numba import prange

from ..plan.chunk_table import GRAD
from .jit import jit
from .machine import call_kernel, set_table, table

_lock = threading.Lock()
_forked = False


def _after_fork() -> None:
    # An OpenMP team does not survive a fork: libgomp hangs, and numba ends the child that tries.
    global _forked, _lock
    _forked, _lock = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@jit()
def _run_rows(rows, width, first, last, column):
    for number in range(first, last):
        row = rows + number * width
        if table(row, GRAD) != 0 and table(row, column) != 0:
            call_kernel(table(row, column), row)


@jit(nogil=True)
def run_alone(rows, width, last, clock, column):
    """Run the kernels in a column of rows 0 to ``last`` on the calling thread, and raise the clock."""
    _run_rows(rows, width, 0, last, column)
    set_table(clock, 0, table(clock, 0) + 1)


@jit(parallel=True, nogil=True)
def _run_spans(rows, width, spans, count, clock, column):
    for span in prange(count):
        _run_rows(rows, width, table(spans, span), table(spans, span + 1), column)
    set_table(clock, 0, table(clock, 0) + 1)


def run(rows: int, width: int, last: int, spans: int, count: int, threads: int, clock: int, column: int) -> None:
    """Run the kernels in a column of ``last`` rows, cut into ``count`` spans, with up to ``threads`` threads.

    Without the GIL. Addresses of int64: the rows of ``width`` bytes, the spans, and the clock, which is raised by one.
    """
    threads = min(threads, numba.config.NUMBA_NUM_THREADS)
    if threads == 1 or _forked:
        run_alone(rows, width, last, clock, column)
        return
    before = numba.get_num_threads()
    with _one_at_a_time():
        numba.set_num_threads(threads)
        try:
            _run_spans(rows, width, spans, count, clock, column)
        finally:
            numba.set_num_threads(before)


def _one_at_a_time() -> Any:
    """Return a lock where numba's threading layer needs one: ``workqueue`` ends a process with two launches at once."""
    try:
        layer = numba.threading_layer()
    except ValueError:  # none has been started yet
        layer = "workqueue"
    return _lock if layer == "workqueue" else contextlib.nullcontext()
