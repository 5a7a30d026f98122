"""Arrays of the shapes that matrix rules tell apart."""

from __future__ import annotations

import numpy as np

SHAPES = [(7,), (6, 5), (), (3, 4, 2), (1200,), (40, 30), (0,), (0, 3)]


def many(seed, dtype=np.float32, shapes=SHAPES):
    """Normal numbers, an array a shape."""
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.standard_normal(shape), dtype) for shape in shapes]
