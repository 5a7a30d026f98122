"""Add up the sums of reduction blocks in a fixed order, so that the result has the same bits on every backend."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LANES = 16
"""Partial sums of a reduction block: element ``i`` is added to number ``i % LANES``. A vector instruction adds as many
at once; the number is the same on every processor and in the reference."""


def folded(sums: np.ndarray) -> tuple[float, ...]:
    """Add up the sums of all blocks, float64 (blocks, sums), one block after the other. Return each sum's total."""
    return tuple(np.cumsum(sums, axis=0)[-1].tolist()) if len(sums) else (0.0,) * sums.shape[1]


def total(sums: np.ndarray) -> tuple[float, bool]:
    """Return the sum of the squares of all gradients, and whether all gradients are finite.

    ``sums``: float64 (blocks, 2), for every reduction block the sum of squares, and 0.0, or NaN where a gradient is not
    finite.
    """
    if not len(sums):
        return 0.0, True
    return float(np.cumsum(sums[:, 0])[-1]), bool((sums[:, 1] == 0.0).all())


def rescaled_norm(arrays: Sequence[np.ndarray]) -> tuple[float, int]:
    """Return the 2-norm of finite arrays together as ``(fraction, exponent)``: it is ``fraction * 2.0**exponent``.

    For numbers whose squares overflow: they are divided by a power of two, which changes no bit of them, and added one
    after the other.
    """
    rows = [array.astype(np.float64).reshape(-1) for array in arrays if array.size]
    exponent = math.frexp(max((float(np.abs(row).max()) for row in rows), default=0.0))[1]
    squares = 0.0
    for row in rows:
        squares += float(np.cumsum(np.square(np.ldexp(row, -exponent)))[-1])
    return math.sqrt(squares), exponent
