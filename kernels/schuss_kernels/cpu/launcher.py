"""The launcher without a C extension: it runs a chunk table on the calling thread, or in numba's ``prange``.

It is compiled once for all rules, as a row holds its kernel's address. The result has the same bits whichever thread
runs a row. The extension's launcher is faster: it never waits for idle helper threads, and reads gradients without
Python.
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

_lock = threading.RLock()  # a signal's handler may step another optimizer while its thread holds it
_forked = False


def _after_fork() -> None:
    """Use the calling thread alone from now on: libgomp hangs after a fork, and numba then ends the child process."""
    global _forked, _lock
    _forked, _lock = True, threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@jit()
def _run_rows(rows, width, first, last, column):
    """Run the kernels in a column of rows ``first`` to ``last``, the last one excluded."""
    for number in range(first, last):
        row = rows + number * width
        if table(row, GRAD) != 0 and table(row, column) != 0:
            call_kernel(table(row, column), row)


@jit(nogil=True)
def run_alone(rows, width, last, clock, column):
    """Run the kernels in a column of the first ``last`` rows on the calling thread, and add 1 to the clock."""
    _run_rows(rows, width, 0, last, column)
    set_table(clock, 0, table(clock, 0) + 1)


@jit(parallel=True, nogil=True)
def _run_spans(rows, width, spans, count, clock, column):
    """Run the kernels in a column of ``count`` spans on numba's threads, and add 1 to the clock."""
    for span in prange(count):
        _run_rows(rows, width, table(spans, span), table(spans, span + 1), column)
    set_table(clock, 0, table(clock, 0) + 1)


def run(rows: int, width: int, last: int, spans: int, count: int, threads: int, clock: int, column: int) -> None:
    """Run the kernels in a column of ``last`` rows, cut into ``count`` spans, on up to ``threads`` threads.

    The GIL is released. ``rows``, ``spans`` and ``clock`` are addresses of int64 arrays. ``width``: bytes of a row.
    1 is added to the clock.
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
    """Return a lock for numba's threading layer ``workqueue``, which aborts a process that makes two launches at once.

    For other layers return a context that does nothing.
    """
    try:
        layer = numba.threading_layer()
    except ValueError:  # no layer has been started yet: this launch may start workqueue
        layer = "workqueue"
    return _lock if layer == "workqueue" else contextlib.nullcontext()
