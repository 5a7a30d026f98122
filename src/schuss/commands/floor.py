"""The floor of a step: loops that read and write what an optimizer does, and compute next to nothing.

They share no code with the kernels: plain numba over flat arrays, once by all threads and once by the caller alone.
The loop with ``n`` states reads p, g and the states and writes p and the states.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange

SERIAL_BELOW = 128 * 1024
"""Elements up to which one thread is faster than waking the others."""


def _states0(p, g):
    for i in prange(p.size):
        p[i] = p[i] + g[i]


def _states1(p, g, a):
    for i in prange(p.size):
        x = a[i] + g[i]
        a[i] = x
        p[i] = p[i] + x


def _states2(p, g, a, b):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        a[i] = x
        b[i] = y
        p[i] = p[i] + (x + y)


def _states3(p, g, a, b, c):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        z = c[i] + g[i]
        a[i] = x
        b[i] = y
        c[i] = z
        p[i] = p[i] + (x + y + z)


_LOOPS = (_states0, _states1, _states2, _states3)
_compiled: dict[tuple[int, bool], Any] = {}


def step(elements: int, states: int) -> Callable[[], None]:
    """A function that runs the floor of one step over ``elements`` float32 elements with ``states`` states.

    Raises
    ------
    ValueError
        When there is no loop with so many states.
    """
    if states >= len(_LOOPS):
        raise ValueError(f"states: the floor knows up to {len(_LOOPS) - 1}, got {states}")
    alone = elements < SERIAL_BELOW
    loop = _compiled.get((states, alone))
    if loop is None:
        # Both forms would share one file of numba's cache, which does not tell them apart: only one is kept there.
        loop = _compiled[states, alone] = njit(_LOOPS[states]) if alone else _threaded(_LOOPS[states])
    streams = [np.full(elements, 0.125, np.float32) for _ in range(states + 2)]
    loop(*streams)
    return lambda: loop(*streams)


def _threaded(function: Callable[..., None]) -> Any:
    try:
        return njit(function, parallel=True, cache=True)
    except RuntimeError:  # no folder for a cache can be written
        return njit(function, parallel=True)
