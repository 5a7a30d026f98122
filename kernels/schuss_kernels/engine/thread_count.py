"""How many threads a step may use."""

from __future__ import annotations

import os


def most_threads() -> int:
    """``OMP_NUM_THREADS`` where it is set, else ``NUMBA_NUM_THREADS``, else the cores this process may run on."""
    for variable in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        first = os.environ.get(variable, "").split(",")[0].strip()  # OpenMP's list is one number a nesting level
        if first.isdecimal() and int(first) > 0:
            return int(first)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
