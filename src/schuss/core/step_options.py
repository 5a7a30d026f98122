"""The options of a step: scaling, clipping and zeroing of the gradients, and skipping of steps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

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
            For an option that is no number, not finite, or negative where it must not be; the message names it.
        """
        return cls(
            1.0 if grad_scale is None else _number("grad_scale", grad_scale, -math.inf),
            None if clip_norm is None else _number("clip_norm", clip_norm, 0.0),
            None if clip_value is None else _number("clip_value", clip_value, 0.0),
            _flag("skip_nonfinite", skip_nonfinite),
            _flag("zero_grad", zero_grad),
        )

    @property
    def needs_grad_norm(self) -> bool:
        """Whether the gradients have to be read before anything is moved: for their norm, or for what is not finite."""
        return self.clip_norm is not None or self.skip_nonfinite

    def clip_coefficient(self, norm: float) -> float:
        """Return what to multiply gradients of a 2-norm by, so that it is ``clip_norm`` at most."""
        if self.clip_norm is None:
            return 1.0
        coefficient = self.clip_norm / (norm + EPS)
        return 1.0 if coefficient > 1.0 else coefficient  # a NaN stays one


def _number(name: str, value: Any, least: float) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number or None, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < least:
        at_least = "" if least == -math.inf else f" of at least {least:g}"
        raise ValueError(f"{name}: expected a finite number{at_least}, got {value!r}")
    return number


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


DEFAULT_OPTIONS = StepOptions()
"""The options of a step without options."""

MOVED = StepInfo(None, False)
"""What such a step returns."""
