"""The floor of a step: loops that read and write what an optimizer does, and compute next to nothing.

They share no code with the kernels: plain numba over flat arrays, once by all threads and once by the caller alone.
The loop with ``n`` states reads p, g and the states and writes p and the states; some states are only read. Where a
rule measures before it moves, a loop that only reads comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, prange
from schuss_kernels.lang.rule import Rule
from schuss_kernels.lang.traffic import traffic

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


def _states1_read1(p, g, a, r):
    for i in prange(p.size):
        x = a[i] + g[i]
        a[i] = x
        p[i] = p[i] + (x + r[i])


def _states2_read1(p, g, a, b, r):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        a[i] = x
        b[i] = y
        p[i] = p[i] + (x + y + r[i])


def _states4_read1(p, g, a, b, c, d, r):
    for i in prange(p.size):
        x = a[i] + g[i]
        y = b[i] + g[i]
        z = c[i] + g[i]
        w = d[i] + g[i]
        a[i] = x
        b[i] = y
        c[i] = z
        d[i] = w
        p[i] = p[i] + (x + y + z + w + r[i])


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


_LOOPS = {
    (0, 0): _states0,
    (1, 0): _states1,
    (2, 0): _states2,
    (3, 0): _states3,
    (4, 0): _states4,
    (5, 0): _states5,
    (1, 1): _states1_read1,
    (2, 1): _states2_read1,
    (4, 1): _states4_read1,
}
"""By the states that are written and those that are only read."""

_READS = (None, _reads1, _reads2, _reads3, _reads4, _reads5)
_compiled: dict[tuple[Any, bool], Any] = {}


def step(elements: int, states: int, only_read: int = 0, before: int = 0) -> Callable[[], None]:
    """A function that runs the floor of one step over ``elements`` float32 elements with ``states`` states.

    ``only_read``: further states that are read and not written. ``before``: arrays that a first pass reads, of the
    parameter, the gradient and the states; 0: there is none.

    Raises
    ------
    ValueError
        When there is no loop over so many.
    """
    if (states, only_read) not in _LOOPS:
        known = ", ".join(f"{n} + {m}" for n, m in _LOOPS)
        raise ValueError(f"states: the floor knows {known} (written + only read), got {states} + {only_read}")
    if before >= len(_READS):
        raise ValueError(f"before: the floor knows up to {len(_READS) - 1}, got {before}")
    there = states + only_read + 2
    streams = [np.full(elements, 0.125, np.float32) for _ in range(max(there, before))]
    loop = _loop(_LOOPS[states, only_read], elements)
    if not before:
        loop(*streams)
        return lambda: loop(*streams)
    first = _loop(_READS[before], elements)

    def both() -> None:
        first(*streams[-before:])
        loop(*streams[:there])

    both()
    return both


def streams(rule: Rule) -> tuple[int, int, int]:
    """What :func:`step` takes after the elements, for a rule."""
    used, states = traffic(rule), set(rule.State._fields)
    return len(states & used.written), len(states & (used.read - used.written)), len(used.measured)


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
