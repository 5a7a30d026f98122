"""The norm of a step's gradients, what a kernel multiplies them by, and whether they are finite then."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from schuss_kernels.plan.reduce import rescaled_norm

from .step_options import StepOptions

Gradients = list[tuple[np.ndarray, np.dtype]]
"""Gradients, each with the dtype that its tensor is computed in."""

LIMIT = float(np.finfo(np.float32).max) * (1.0 - 1e-6)
"""Scaled gradients with a smaller norm are finite in every dtype."""


class ScaledGradients(NamedTuple):
    """What a step knows of its gradients before it moves anything.

    ``norm``: their 2-norm after ``grad_scale``. ``scale``: what the kernels multiply them by: ``grad_scale``, times
    what ``clip_norm`` asks for. ``finite``: whether they are all finite then.
    """

    norm: float
    scale: float
    finite: bool


def scaled(squares: float, finite: bool, options: StepOptions, read: Callable[[], Gradients]) -> ScaledGradients:
    """Find the norm and the scale of the gradients from the sum of their squares.

    ``finite``: whether all are finite before they are scaled. ``read``: returns them; it is called where the sum of the
    squares has overflowed, or the largest scaled element may.
    """
    given, root, exponent = options.scale, math.sqrt(squares), 0
    if root == math.inf and finite:
        root, exponent = rescaled_norm([gradient for gradient, _ in read()])
    norm = _times_two_to(root * abs(given), exponent) if exponent else root * abs(given)
    scale = given * options.clip_coefficient(norm)
    if finite and norm >= LIMIT:
        limit = options.clip_norm
        if norm == math.inf and limit is not None and limit < math.inf:  # too large a norm to divide by
            scale = math.copysign(_times_two_to(limit / root, -exponent), given)
        if options.skip_nonfinite and _times_two_to(root * abs(scale), exponent) >= LIMIT:
            finite = _stay_finite(scale, read())
    return ScaledGradients(norm, scale, finite)


def _times_two_to(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _stay_finite(scale: float, gradients: Gradients) -> bool:
    """Whether scaled gradients are finite in the dtypes that they are computed in."""
    with np.errstate(all="ignore"):
        return all(np.isfinite(gradient.astype(dtype) * dtype.type(scale)).all() for gradient, dtype in gradients)
