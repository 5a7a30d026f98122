"""Helper threads that share a launch with the calling one.

A launch never waits for a helper to *arrive*. The caller opens the job, wakes the helpers and starts; whoever comes
takes spans from a common counter, and the caller waits only for helpers that are still inside. A helper that the
operating system has no core for costs nothing. A fork-join barrier, as in OpenMP, waits for it: 4 to 8 milliseconds
measured for a 0.2 millisecond step, whenever a BLAS library's threads spin on the other cores or the process has slept.

Helpers are Python threads that sleep in a lock, so nothing outlives a fork: a child starts its own.

The job is a few 64-bit integers. ``ACTIVE`` counts the helpers inside, ``OPEN`` is one while the job may be entered. A
helper raises ACTIVE, then looks at OPEN; the caller lowers OPEN, then waits for ACTIVE to be zero. Both are
sequentially consistent: no helper touches a job that has ended, and the job's memory may be reused at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import numpy as np

OPEN, ACTIVE, ROWS, WIDTH, SPANS, COUNT, CORE, COLUMN, TAKEN, THREADS = 0, 8, 16, 17, 18, 19, 20, 21, 22, 23
"""Columns of the job. Counters that several threads write lie a cache line apart. TAKEN is the address of one for each
of the THREADS: how many spans of its share are taken."""

LINE = 64
"""Bytes from counter to counter."""

_PATIENCE = 50e-6
"""Seconds between two looks at a helper that was interrupted inside; sleeping lets it have this core."""


class Pool:
    """Helper threads for one job at a time.

    ``lead(job, rows, width, spans, count, counters, threads, clock, column)`` opens the job, works as thread 0, raises
    the clock and closes it; ``help(job, thread) -> int`` works on an open job, or tells the core when that is the
    caller's own; ``left(job) -> bool`` tells, after a moment's patience, whether every helper has left. All three are
    compiled and run without the GIL.
    """

    def __init__(
        self, lead: Callable[..., None], help_: Callable[[int, int], int], left: Callable[[int], bool]
    ) -> None:
        self._lead, self._help, self._left = lead, help_, left
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._busy = threading.Lock()
        self._beds: list[threading.Lock] = []  # one a helper: locked while it sleeps or works, released to wake it
        self._job = np.zeros(64, np.int64)
        self._address = int(self._job.ctypes.data)

    def run(
        self, rows: int, width: int, spans: int, count: int, counters: int, threads: int, clock: int, column: int
    ) -> bool:
        """Run a table's spans with up to ``threads`` threads; False, and nothing done, while another job runs."""
        if not self._busy.acquire(blocking=False):
            return False
        try:
            self._wake(threads - 1)
            self._lead(self._address, rows, width, spans, count, counters, threads, clock, column)
        finally:
            try:
                self._wait()
            finally:
                self._busy.release()
        return True

    def _wait(self) -> None:
        """Return when every helper has left; Ctrl-C is passed on then, not before: a helper still works on the job."""
        interrupt = None
        while True:
            try:
                while not self._left(self._address):
                    time.sleep(_PATIENCE)
                break
            except KeyboardInterrupt as raised:
                interrupt = raised
        if interrupt is not None:
            raise interrupt

    def _wake(self, helpers: int) -> None:
        if not self._beds:
            self._help(self._address, 0)  # no job is open; compiles it here, not in every helper at once
        while len(self._beds) < helpers:
            bed = threading.Lock()
            bed.acquire()
            try:
                threading.Thread(
                    target=self._serve, args=(bed, self._address, 1 + len(self._beds)), name="schuss", daemon=True
                ).start()
            except RuntimeError:  # the interpreter is ending, or the system has no more threads to give
                break
            self._beds.append(bed)
        for bed in self._beds[:helpers]:
            if bed.locked():
                bed.release()

    def _serve(self, bed: threading.Lock, job: int, thread: int) -> None:
        while True:
            bed.acquire()
            core = self._help(job, thread)
            if core >= 0 and _keep_off(core):
                self._help(job, thread)


def _keep_off(core: int) -> bool:
    """Keep the calling helper off the core of the thread it should help.

    The scheduler likes to wake a thread where its waker runs, and leaves it there while other libraries' threads spin
    on the other cores: it would take turns with the caller instead of helping.
    """
    if not hasattr(os, "sched_setaffinity"):
        return False
    others = os.sched_getaffinity(os.getpid()) - {core}
    if not others:
        return False
    os.sched_setaffinity(0, others)
    return True
