"""Add up the sums of reduction blocks in a fixed order, so that the result has the same bits on every backend."""

from __future__ import annotations

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
