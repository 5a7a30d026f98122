"""The options of a step: scaling, clipping and zeroing of the gradients, and skipping of steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from .validate import flag, number, shown

EPS = 1e-6
"""Added to the norm that ``clip_norm`` is divided by, as in torch."""


class StepInfo(NamedTuple):
    """What :meth:`schuss.Optimizer.step` returns.

    ``grad_norm``: 2-norm of all scaled gradients, None where no option asked for it. ``skipped``: whether
    ``skip_nonfinite`` left everything as it was.
    """

    grad_norm: float | None
    skipped: bool


class StepOptions(NamedTuple):
    """The options of a step, checked; :meth:`schuss.Optimizer.step` says what they mean."""

    scale: float = 1.0
    clip_norm: float | None = None
    clip_value: float | None = None
    skip_nonfinite: bool = False
    zero_grad: bool = False

    @classmethod
    def checked(
        cls, grad_scale: Any, clip_norm: Any, clip_value: Any, skip_nonfinite: Any, zero_grad: Any
    ) -> StepOptions:
        """Check the options as :meth:`schuss.Optimizer.step` takes them.

        Raises
        ------
        TypeError, ValueError
            For an option that is no number, not finite, negative or zero where it must not be; the message names it.
        """
        return cls(
            1.0 if grad_scale is None else _number("grad_scale", grad_scale, -math.inf),
            None if clip_norm is None else _clip_norm(clip_norm),
            None if clip_value is None else _number("clip_value", clip_value, 0.0),
            _flag("skip_nonfinite", skip_nonfinite),
            _flag("zero_grad", zero_grad),
        )

    def check_scale(self, dtype: np.dtype) -> None:
        """Check that what gradients are multiplied by is a number of the dtype in which they are.

        Raises
        ------
        ValueError
            When it is infinite there, or zero though the option is not.
        """
        with np.errstate(all="ignore"):
            computed = float(dtype.type(self.scale))
        if not math.isfinite(computed) or (computed == 0.0 and self.scale != 0.0):
            limits = np.finfo(dtype)
            raise ValueError(
                f"grad_scale: expected a number that {dtype} has, of {limits.smallest_subnormal:.2g} to "
                f"{limits.max:.2g} in size, as gradients are multiplied by it in {dtype}; got {self.scale!r}"
            )

    @property
    def needs_grad_norm(self) -> bool:
        """Whether the gradients have to be read before anything is moved: for their norm, or for what is not finite."""
        return self.clip_norm is not None or self.skip_nonfinite

    def clip_coefficient(self, norm: float) -> float:
        """Return what to multiply gradients of a 2-norm by, so that it is ``clip_norm`` at most."""
        if self.clip_norm is None or self.clip_norm == math.inf:
            return 1.0
        coefficient = self.clip_norm / (norm + EPS)
        return 1.0 if coefficient > 1.0 else coefficient  # a NaN stays one


def _number(name: str, value: Any, least: float) -> float:
    found = _any_number(name, value)
    if not math.isfinite(found) or found < least:
        at_least = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name}: expected a finite number{at_least}, got {shown(value)}")
    return found


def _clip_norm(value: Any) -> float:
    found = _any_number("clip_norm", value)
    if not found > 0.0:
        raise ValueError(
            "clip_norm: expected a number above 0, or infinity to measure the norm and clip nothing, or None; "
            f"got {value!r}"
        )
    if found == math.inf and isinstance(value, int):  # beyond float64, and no infinity that somebody asked for
        raise ValueError(f"clip_norm: expected a number that float64 has, or infinity; got {shown(value)}")
    return found


def _any_number(name: str, value: Any) -> float:
    try:
        return number(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error} or None, got {value!r}") from None


def _flag(name: str, value: Any) -> bool:
    try:
        return flag(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}, got {value!r}") from None


DEFAULT_OPTIONS = StepOptions()
"""The options of a step without options."""

MOVED = StepInfo(None, False)
"""What such a step returns."""
