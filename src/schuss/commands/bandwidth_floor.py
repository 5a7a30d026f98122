"""Measure the floor of a step: loops that read and write what an optimizer does, and compute next to nothing.

They share no code with the kernels: plain numba over flat arrays, once by all threads and once by the caller alone.
How many arrays they read and write is the traffic of the optimizer's rule. Where a rule measures before it moves, a
loop that only reads comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange
from schuss_kernels.lang.traffic import Traffic

SERIAL_BELOW = 128 * 1024
"""Elements up to which one thread is faster than waking the others."""

_compiled: dict[tuple[Any, ...], Any] = {}


def step(elements: int, traffic: Traffic) -> Callable[[], None]:
    """Return a function that runs the floor of one step over ``elements`` float32 elements; it has run once.

    ``traffic``: which arrays the update writes and reads, and which the measure before it reads.
    """
    written, read, measured = len(traffic.written), len(traffic.read - traffic.written), len(traffic.measured)
    arrays = np.full((max(written + read, measured), elements), 0.125, np.float32)
    update = _loop(_update, elements, written, read)
    if not measured:
        update(arrays)
        return lambda: update(arrays)
    measure, last = _loop(_measure, elements, measured), arrays[-measured:]

    def both() -> None:
        measure(last)
        update(arrays)

    both()
    return both


# The numbers of arrays are constants when a loop is compiled: the loops over them are unrolled.


def _update(written: int, read: int) -> Callable[[np.ndarray], None]:
    """Make a loop that adds the sum of ``read`` rows to each of the ``written`` rows before them."""

    def update(arrays):
        for i in prange(arrays.shape[1]):
            total = np.float32(1.0)
            for row in range(written, written + read):
                total += arrays[row, i]
            for row in range(written):
                arrays[row, i] += total

    return update


def _measure(read: int) -> Callable[[np.ndarray], np.float32]:
    """Make a loop that adds up all elements of ``read`` rows."""

    def measure(arrays):
        total = np.float32(0.0)
        for i in prange(arrays.shape[1]):
            for row in range(read):
                total += arrays[row, i]
        return total

    return measure


def _loop(make: Callable[..., Any], elements: int, *counts: int) -> Any:
    """Compile a loop, for the caller's thread alone where there are few elements, for all threads elsewhere."""
    alone = elements < SERIAL_BELOW
    key = (make, alone, *counts)
    if key not in _compiled:
        # Both forms would share one file of numba's cache, which does not tell them apart: only one is kept there.
        # What is added up may be in any order: the floor's sums are for nobody.
        function = make(*counts)
        _compiled[key] = njit(function, fastmath=True) if alone else _threaded(function)
    return _compiled[key]


def _threaded(function: Callable[..., Any]) -> Any:
    try:
        return njit(function, parallel=True, cache=True, fastmath=True)
    except RuntimeError:  # no folder for a cache can be written
        return njit(function, parallel=True, fastmath=True)
