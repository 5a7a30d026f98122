"""Gradients from values of a function, and how far a gradient that was written down is from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .finite_differences import gradient
from .objective import Objective, point


@dataclass(frozen=True)
class GradientCheck:
    """How far a gradient is from the differences of its function.

    Attributes
    ----------
    error
        The largest disagreement: ``abs(given - expected) / max(1, abs(given), abs(expected))``; infinite where one of
        them is not finite.
    where
        The index of that element.
    given, expected
        What ``jac`` gave there, and what the differences did.
    """

    error: float
    where: tuple[int, ...]
    given: float
    expected: float

    def __str__(self) -> str:
        place = self.where[0] if len(self.where) == 1 else self.where
        return (
            f"largest disagreement {self.error:.3g}, at element {place}: jac gives {self.given:.10g}, differences "
            f"{self.expected:.10g}"
        )


def check_gradient(fun: Callable[..., Any], jac: Any, x: Any, args: Any = ()) -> GradientCheck:
    """Compare a gradient with the differences of its function at a point.

    Parameters
    ----------
    fun, jac, args
        As in :func:`schuss.minimize`; ``jac`` is a function, or True where ``fun`` returns both.
    x
        Where: an array of any shape, float or integer. It is left as it is.

    Returns
    -------
    GradientCheck
        The largest disagreement and where it is; ``print`` says it in a line. With differences by SciPy, a right
        gradient of a smooth function comes to about 1e-10, with central ones (SciPy before 1.15, or none) to 1e-7.

    Raises
    ------
    TypeError, ValueError
        When ``fun`` does not return a finite number, ``jac`` not the shape of ``x``, or ``x`` is no array of finite
        numbers.

    Examples
    --------
    >>> import schuss
    >>> check = schuss.check_gradient(lambda x: x[0] ** 2 + x[1] ** 3, lambda x: [2 * x[0], 2 * x[1] ** 2], [1.0, 2.0])
    >>> print(check)
    largest disagreement 0.333, at element 1: jac gives 8, differences 12
    """
    if not callable(jac) and jac is not True:
        raise TypeError(f"jac: expected a function, or True where fun returns both; got {jac!r}")
    where = point(x, "x").astype(np.float64)
    objective = Objective(fun, jac, args)
    value, given = objective.at(where)
    if not np.isfinite(value):
        raise ValueError(f"fun: expected a finite number at x, got {value}")
    expected = gradient(objective.value, where)
    with np.errstate(all="ignore"):
        error = np.abs(given - expected) / np.maximum(1.0, np.maximum(np.abs(given), np.abs(expected)))
    error = np.where(np.isfinite(error), error, np.inf)
    worst = np.unravel_index(int(error.argmax()), error.shape)
    index = tuple(int(number) for number in worst)
    return GradientCheck(float(error[index]), index, float(given[index]), float(expected[index]))
