"""A function with a known minimum, for the tests of descent."""

from __future__ import annotations

import numpy as np

MINIMUM = np.array([1.0, -2.0])
SCALES = np.array([1.0, 5.0])


def bowl(x):
    return float(SCALES @ (x - MINIMUM) ** 2)


def slope(x):
    return 2.0 * SCALES * (x - MINIMUM)


def both(x):
    return bowl(x), slope(x)
