"""The floor of a step: loops that read and write what an optimizer does, and compute next to nothing.

They share no code with the kernels: plain numba over flat arrays, once by all threads and once by the caller alone.
The loop with ``n`` states reads p, g and the states and writes p and the states. Where a rule measures before it
moves, a loop that only reads comes first.
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


def _states4(p, g, a, b, c, d):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        z = c[i] + g[i]
        w = d[i] + g[i]
        a[i] = x
        b[i] = y
        c[i] = z
        d[i] = w
        p[i] = p[i] + (x + y + z + w)


def _states5(p, g, a, b, c, d, e):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        z = c[i] + g[i]
        w = d[i] + g[i]
        v = e[i] + g[i]
        a[i] = x
        b[i] = y
        c[i] = z
        d[i] = w
        e[i] = v
        p[i] = p[i] + (x + y + z + w + v)


def _reads1(a):
    total = np.float32(0.0)
    for i in prange(a.size):
        total += a[i]
    return total


def _reads2(a, b):
    total = np.float32(0.0)
    for i in prange(a.size):
        total += a[i] + b[i]
    return total


def _reads3(a, b, c):
    total = np.float32(0.0)
    for i in prange(a.size):
        total += a[i] + b[i] + c[i]
    return total


def _reads4(a, b, c, d):
    total = np.float32(0.0)
    for i in prange(a.size):
        total += a[i] + b[i] + c[i] + d[i]
    return total


def _reads5(a, b, c, d, e):
    total = np.float32(0.0)
    for i in prange(a.size):
        total += a[i] + b[i] + c[i] + d[i] + e[i]
    return total


_LOOPS = (_states0, _states1, _states2, _states3, _states4, _states5)
_READS = (None, _reads1, _reads2, _reads3, _reads4, _reads5)
_compiled: dict[tuple[Any, bool], Any] = {}


def step(elements: int, states: int, reads: int = 0) -> Callable[[], None]:
    """A function that runs the floor of one step over ``elements`` float32 elements with ``states`` states.

    ``reads``: arrays that a first pass reads, of the parameter, the gradient and the states; 0: there is none.

    Raises
    ------
    ValueError
        When there is no loop over so many.
    """
    if states >= len(_LOOPS):
        raise ValueError(f"states: the floor knows up to {len(_LOOPS) - 1}, got {states}")
    if reads >= len(_READS) or reads > states + 2:
        raise ValueError(f"reads: the floor knows up to {min(len(_READS) - 1, states + 2)}, got {reads}")
    streams = [np.full(elements, 0.125, np.float32) for _ in range(states + 2)]
    loop = _loop(_LOOPS[states], elements)
    if not reads:
        loop(*streams)
        return lambda: loop(*streams)
    first = _loop(_READS[reads], elements)

    def both() -> None:
        first(*streams[-reads:])
        loop(*streams)

    both()
    return both


def _loop(function: Any, elements: int) -> Any:
    alone = elements < SERIAL_BELOW
    if (function, alone) not in _compiled:
        # Both forms would share one file of numba's cache, which does not tell them apart: only one is kept there.
        # What is added up may be in any order: the floor's sums are for nobody.
        options = {"fastmath": True} if function in _READS else {}
        _compiled[function, alone] = njit(function, **options) if alone else _threaded(function, options)
    return _compiled[function, alone]


def _threaded(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    try:
        return njit(function, parallel=True, cache=True, **options)
    except RuntimeError:  # no folder for a cache can be written
        return njit(function, parallel=True, **options)
