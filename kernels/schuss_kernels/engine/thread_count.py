"""The number of threads that a step may use."""

from __future__ import annotations

import os


def max_threads() -> int:
    """Return ``OMP_NUM_THREADS`` where it is set, else ``NUMBA_NUM_THREADS``, else the cores that the process may use.

    ``OMP_NUM_THREADS`` may be a list, one number for each level of nesting: the first counts.
    """
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()
        if first.isdecimal() and int(first) > 0:
            return int(first)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
