"""The gradient of a function by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def gradient(fun: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """The gradient of a function of an array, float64, from its values.

    ``scipy.differentiate``, where it is there (SciPy 1.15), takes differences of order 8 and smaller and smaller steps,
    the first of them ``0.01 * max(1, abs(x))``; the value of the smallest estimated error is taken, for steps can be
    too small where the function is computed in float32, say. What it finds no finite value for, and everything where it
    is not there, comes from central differences. Where the function raises an arithmetic or a domain error beside
    ``x``, its value counts as NaN.
    """
    x = x.astype(np.float64)

    def value(flat: np.ndarray) -> float:
        try:
            return fun(flat.reshape(x.shape))
        except (ArithmeticError, ValueError):  # math.log(-0.1) and the like
            return np.nan

    with np.errstate(all="ignore"):
        slopes = _adaptive(value, x.ravel())
        for number in np.flatnonzero(~np.isfinite(slopes)):
            slopes[number] = _central(value, x.ravel(), int(number))
    return slopes.reshape(x.shape)


def _adaptive(value: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    try:
        from scipy.differentiate import derivative
    except ImportError:
        return np.full(x.shape, np.nan)

    def along(coordinates: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """The function where one coordinate of x, of this number, is another; for each of an array of such."""
        values = np.empty(coordinates.shape)
        for place, number in np.ndenumerate(np.broadcast_to(numbers, coordinates.shape)):
            moved = x.copy()
            moved[int(number)] = coordinates[place]
            values[place] = value(moved)
        return values

    best, error = np.full(x.shape, np.nan), np.full(x.shape, np.inf)

    def keep_best(result: Any) -> None:
        better = ~(result.error >= error)  # no estimate yet counts as better
        best[better], error[better] = result.df[better], np.nan_to_num(result.error[better], nan=np.inf)

    numbers = np.arange(len(x), dtype=np.float64)  # SciPy makes all arguments one dtype
    step = 0.01 * np.maximum(1.0, np.abs(x))
    derivative(along, x, args=(numbers,), initial_step=step, callback=keep_best)
    return best


def _central(value: Callable[[np.ndarray], float], x: np.ndarray, number: int) -> float:
    step = np.cbrt(np.finfo(np.float64).eps) * max(1.0, abs(x[number]))
    below, above = x.copy(), x.copy()
    below[number] -= step
    above[number] += step
    return (value(above) - value(below)) / (above[number] - below[number])
