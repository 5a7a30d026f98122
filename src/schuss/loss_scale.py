"""A loss scale that finds its own size, for gradients in 16 bits."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import Any

from .core import validate
from .core.step_options import StepInfo

_FIELDS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "clean_steps")

SMALLEST, LARGEST = 2.0**-126, 2.0**127
"""Of a scale: it and its reciprocal are numbers in float32, with all of their bits."""


class DynamicLossScale:
    """Multiply the loss by :attr:`scale`, so that small gradients survive 16 bits; halve it when they overflow.

    As torch's ``GradScaler``: after ``growth_interval`` steps in a row whose gradients were finite the scale grows by
    ``growth_factor``; a step that was skipped takes it back by ``backoff_factor``. It stays between ``min_scale`` and
    2**127. Where a skipped step has taken it to ``min_scale``, a RuntimeWarning says so, once until it grows again: no
    scale makes such gradients finite, and it is mostly the loss that is not.

    Parameters
    ----------
    scale
        What it starts from, from 2**-126 to 2**127.
    growth_factor
        Above 1.
    backoff_factor
        Above 0 and below 1.
    growth_interval
        Whole number, at least 1. Where it is lowered to no more than :attr:`clean_steps`, the next clean step grows.
    min_scale
        What skipped steps leave at least, from 2**-126 to 2**127; not more than ``scale``. None: 2**-14, or ``scale``
        where that is less.

    References
    ----------
    Micikevicius et al. 2018, "Mixed Precision Training" (arXiv:1710.03740), section 3.2.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> w = np.ones(2, np.float32)
    >>> opt, scaler = schuss.SGD([w], lr=0.5), schuss.DynamicLossScale(scale=4.0)
    >>> gradients = [np.array([4.0, np.inf], np.float32)]  # of the loss times scaler.scale
    >>> info = opt.step(gradients, grad_scale=scaler.grad_scale, skip_nonfinite=True)
    >>> scaler.update(info)
    >>> info.skipped, scaler.scale
    (True, 2.0)
    """

    def __init__(
        self,
        scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        min_scale: float | None = None,
    ) -> None:
        self.scale = _scale("scale", scale)
        self.growth_factor = _number("growth_factor", growth_factor, 1.0, math.inf)
        self.backoff_factor = _number("backoff_factor", backoff_factor, 0.0, 1.0)
        self.growth_interval = _whole("growth_interval", growth_interval, 1)
        self.min_scale = min(2.0**-14, self.scale) if min_scale is None else _scale("min_scale", min_scale)
        if self.min_scale > self.scale:
            raise ValueError(f"min_scale: expected at most the scale, {self.scale:g}, got {min_scale!r}")
        self.clean_steps = 0
        """Steps in a row whose gradients were finite."""

    @property
    def grad_scale(self) -> float:
        """What takes the scale away again: the ``grad_scale`` of the step."""
        return 1.0 / self.scale

    def update(self, info: StepInfo) -> None:
        """Learn from a step that was made with ``skip_nonfinite=True``."""
        if info.skipped:
            self.clean_steps = 0
            before, self.scale = self.scale, max(self.scale * self.backoff_factor, self.min_scale)
            if before > self.scale == self.min_scale:
                warnings.warn(
                    f"DynamicLossScale: the scale has fallen to min_scale, {self.min_scale:g}, and the gradients are "
                    "still not finite; look at the loss",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return
        self.clean_steps += 1
        if self.clean_steps >= self.growth_interval:
            grown = self.scale * self.growth_factor
            self.scale = grown if grown <= LARGEST else self.scale
            self.clean_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers."""
        return {name: getattr(self, name) for name in (*_FIELDS, "min_scale")}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned. Where there is no ``min_scale`` in it, this one's stays.

        Raises
        ------
        ValueError, TypeError
            When a key is missing or a value does not fit; nothing is changed then.
        """
        missing = [name for name in _FIELDS if name not in state_dict]
        if missing:
            raise ValueError(f"state_dict of a loss scale: the key {missing[0]!r} is missing")
        given = {"min_scale": self.min_scale, **{name: state_dict[name] for name in _FIELDS[:-1]}}
        if "min_scale" in state_dict:
            given["min_scale"] = state_dict["min_scale"]
        else:
            given["scale"] = max(_number("scale", given["scale"], 0.0, math.inf), self.min_scale)
        other = DynamicLossScale(**given)
        other.clean_steps = _whole("clean_steps", state_dict["clean_steps"], 0)
        self.__dict__.update(other.__dict__)

    def __repr__(self) -> str:
        at_least = " (its min_scale)" if self.scale == self.min_scale else ""
        return f"DynamicLossScale(scale={self.scale:g}{at_least}, {self.clean_steps} clean steps)"


def _number(name: str, value: Any, above: float, below: float) -> float:
    try:
        number = validate.number(value)
    except TypeError as error:
        raise TypeError(f"{name}: {error}, got {value!r}") from None
    if not above < number < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        raise ValueError(f"{name}: expected a finite number above {above:g}{upper}, got {validate.shown(value)}")
    return number


def _scale(name: str, value: Any) -> float:
    number = _number(name, value, 0.0, math.inf)
    if not SMALLEST <= number <= LARGEST:
        raise ValueError(f"{name}: expected a number from 2**-126 to 2**127, got {value!r}")
    return number


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = validate.whole(value)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number
