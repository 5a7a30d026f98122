"""Sums of blocks, added up in a fixed order."""

from __future__ import annotations

import numpy as np

LANES = 16
"""Sums that squares are added to in turn: what a vector adds at once, on every processor and in the reference."""


def folded(sums: np.ndarray) -> tuple[float, ...]:
    """The sums of all blocks, (blocks, sums), added up in their order."""
    return tuple(np.cumsum(sums, axis=0)[-1].tolist()) if len(sums) else (0.0,) * sums.shape[1]


def total(sums: np.ndarray) -> tuple[float, bool]:
    """The sums of all blocks in their order, and whether every gradient in them is finite."""
    if not len(sums):
        return 0.0, True
    return float(np.cumsum(sums[:, 0])[-1]), bool((sums[:, 1] == 0.0).all())
