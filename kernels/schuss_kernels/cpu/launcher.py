"""How a table of rows is run: by the caller alone, with helper threads, or by an OpenMP team.

Compiled once for all rules: a kernel is the address in a row's KERNEL column. Every thread has a share of the spans of
rows, the same in every pass and step: memory that another core has read is slow to write, even when it has left that
core's caches (1.5 times the time of a second pass, measured). A thread that is done takes spans of the others' shares,
so one that is interrupted, or does not come at all, holds up a span at most.

Which threads: helpers of our own (see :mod:`.pool`), except in a process where an OpenMP team is at work already, as
torch's is. Its idle threads spin, and helpers would fight them for the cores (1.4 times the time, measured); numba's
OpenMP layer shares that team instead. The bits are the same whoever runs a row.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

import numba
from numba import njit, prange

from ..plan.chunk_table import GRAD, KERNEL
from . import ndarray_headers, thread_pool
from .machine import atomic_add, call_kernel, core, set_table, table

_lock = threading.Lock()
_forked = False
_started = ""


def _after_fork() -> None:
    # An OpenMP team does not survive a fork: libgomp hangs, and numba ends the child that tries.
    global _forked, _lock
    _forked, _lock = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def jit(**options: Any) -> Any:
    """``njit`` with numpy's division and the disk cache, where there is a place for a cache."""

    def wrap(function: Any) -> Any:
        try:
            return njit(cache=True, error_model="numpy", **options)(function)
        except RuntimeError:  # no folder can be written: neither beside this file nor in the user's cache
            return njit(error_model="numpy", **options)(function)

    return wrap


@jit()
def _rows(rows, width, first, last, column):
    for number in range(first, last):
        row = rows + number * width
        if table(row, GRAD) != 0 and table(row, column) != 0:
            call_kernel(table(row, column), row)


@jit()
def _tick(clock):
    set_table(clock, 0, table(clock, 0) + 1)


@jit(nogil=True)
def run_alone(rows, width, first, last, clock, column):
    """Run the kernels in a column of rows ``first`` to ``last`` on the calling thread, and raise the clock."""
    _rows(rows, width, first, last, column)
    _tick(clock)


@jit()
def _drain(rows, width, spans, count, counters, column, threads, thread):
    for turn in range(threads):
        share = (thread + turn) % threads
        first, end = count * share // threads, count * (share + 1) // threads
        while True:
            span = first + atomic_add(counters + share * thread_pool.LINE, 1)
            if span >= end:
                break
            _rows(rows, width, table(spans, span), table(spans, span + 1), column)


@jit()
def _drain_job(job, thread):
    rows, width, spans, threads = (
        table(job, thread_pool.ROWS),
        table(job, thread_pool.WIDTH),
        table(job, thread_pool.SPANS),
        table(job, thread_pool.THREADS),
    )
    _drain(
        rows,
        width,
        spans,
        table(job, thread_pool.COUNT),
        table(job, thread_pool.TAKEN),
        table(job, thread_pool.COLUMN),
        threads,
        thread,
    )


@jit()
def _begin(counters, threads):
    for share in range(threads):
        set_table(counters + share * thread_pool.LINE, 0, 0)


@jit(nogil=True)
def _left(job):
    looks = 0
    while looks < 2000 and atomic_add(job + thread_pool.ACTIVE * 8, 0) != 0:
        looks += 1  # some microseconds: a helper is mostly at the end of its last span
    return looks < 2000


@jit(nogil=True)
def _lead(job, rows, width, spans, count, counters, threads, clock, column):
    set_table(job, thread_pool.ROWS, rows)
    set_table(job, thread_pool.WIDTH, width)
    set_table(job, thread_pool.SPANS, spans)
    set_table(job, thread_pool.COUNT, count)
    set_table(job, thread_pool.COLUMN, column)
    set_table(job, thread_pool.TAKEN, counters)
    set_table(job, thread_pool.THREADS, threads)
    set_table(job, thread_pool.CORE, core())
    _begin(counters, threads)
    atomic_add(job + thread_pool.OPEN * 8, 1)
    _drain_job(job, 0)
    _tick(clock)
    atomic_add(job + thread_pool.OPEN * 8, -1)


@jit(nogil=True)
def _help(job, thread):
    here = core()
    if here >= 0 and here == table(job, thread_pool.CORE):
        return here
    atomic_add(job + thread_pool.ACTIVE * 8, 1)
    if atomic_add(job + thread_pool.OPEN * 8, 0) == 1:
        _drain_job(job, thread)
    atomic_add(job + thread_pool.ACTIVE * 8, -1)
    return -1


@jit(parallel=True, nogil=True)
def _parallel(rows, width, spans, count, counters, workers, clock, column):
    _begin(counters, workers)
    for thread in prange(workers):
        _drain(rows, width, spans, count, counters, column, workers, thread)
    _tick(clock)


refresh = jit()(ndarray_headers.refresh)


@jit()
def refresh_and_run(
    gradients, fixed, count, expected, layouts, rows, width, lows, highs, intervals, kind, none, last, clock
):
    """Put a list of gradients into the plan, run rows 0 to ``last`` and raise the clock; False, and nothing run, if one
    is not as expected (see :func:`.headers.refresh`)."""
    first = refresh(gradients, fixed, count, expected, layouts, rows, width, lows, highs, intervals, kind, none)
    if first == count:
        _rows(rows, width, 0, last, KERNEL)
        _tick(clock)
    return first == count


_pool = thread_pool.Pool(_lead, _help, _left)


def run(
    rows: int, width: int, last: int, spans: int, count: int, counters: int, threads: int, clock: int, column: int
) -> None:
    """Run the kernels in a column of ``last`` rows, cut into ``count`` spans, with up to ``threads`` threads.

    Without the GIL. ``counters`` is the address of a cache line for each of the threads, of this table alone; the int64
    at ``clock`` is raised by one.
    """
    most = numba.config.NUMBA_NUM_THREADS
    if not _team_at_work() or threads > most:
        if not _pool.run(rows, width, spans, count, counters, threads, clock, column):
            run_alone(rows, width, 0, last, clock, column)
    elif threads == most and _layer() == "omp":
        _parallel(rows, width, spans, count, counters, threads, clock, column)
    else:
        before = numba.get_num_threads()
        numba.set_num_threads(threads)
        try:
            with _one_at_a_time():
                _parallel(rows, width, spans, count, counters, threads, clock, column)
        finally:
            numba.set_num_threads(before)


def _team_at_work() -> bool:
    if _forked:
        return False
    # On Linux one libgomp serves torch and numba; elsewhere each brings its own, and two OpenMP runtimes may not mix.
    return _layer() != "" or (sys.platform == "linux" and "torch" in sys.modules)


def _layer() -> str:
    """Numba's threading layer, empty while none has been started."""
    global _started
    if not _started:
        with contextlib.suppress(ValueError):
            _started = str(numba.threading_layer())
    return _started


def _one_at_a_time() -> Any:
    """A lock where numba's layer needs one: launches from two threads would end the process in ``workqueue``."""
    return _lock if _layer() in ("", "workqueue") else contextlib.nullcontext()
