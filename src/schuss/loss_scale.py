"""A loss scale that finds its own size, for gradients in 16 bits."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

from .core.step_options import StepInfo

_FIELDS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "clean_steps")


class DynamicLossScale:
    """Multiply the loss by :attr:`scale`, so that small gradients survive 16 bits; halve it when they overflow.

    As torch's ``GradScaler``: after ``growth_interval`` steps in a row whose gradients were finite the scale grows by
    ``growth_factor``; a step that was skipped takes it back by ``backoff_factor``.

    Parameters
    ----------
    scale
        What it starts from, above 0.
    growth_factor
        Above 1.
    backoff_factor
        Above 0 and below 1.
    growth_interval
        Whole number, at least 1.

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
    ) -> None:
        self.scale = _number("scale", scale, 0.0, math.inf)
        self.growth_factor = _number("growth_factor", growth_factor, 1.0, math.inf)
        self.backoff_factor = _number("backoff_factor", backoff_factor, 0.0, 1.0)
        self.growth_interval = _whole("growth_interval", growth_interval, 1)
        self.clean_steps = 0
        """Steps in a row whose gradients were finite."""

    @property
    def grad_scale(self) -> float:
        """What takes the scale away again: the ``grad_scale`` of the step."""
        return 1.0 / self.scale

    def update(self, info: StepInfo) -> None:
        """Learn from a step that was made with ``skip_nonfinite=True``."""
        if info.skipped:
            self.scale *= self.backoff_factor
            self.clean_steps = 0
            return
        self.clean_steps += 1
        if self.clean_steps == self.growth_interval:
            grown = self.scale * self.growth_factor
            self.scale = grown if math.isfinite(grown) else self.scale
            self.clean_steps = 0

    def state_dict(self) -> dict[str, Any]:
        """Everything, as plain numbers."""
        return {name: getattr(self, name) for name in _FIELDS}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` returned.

        Raises
        ------
        ValueError, TypeError
            When a key is missing or a value does not fit; nothing is changed then.
        """
        missing = [name for name in _FIELDS if name not in state_dict]
        if missing:
            raise ValueError(f"state_dict of a loss scale: the key {missing[0]!r} is missing")
        other = DynamicLossScale(*(state_dict[name] for name in _FIELDS[:-1]))
        other.clean_steps = _whole("clean_steps", state_dict["clean_steps"], 0)
        self.__dict__.update(other.__dict__)

    def __repr__(self) -> str:
        return f"DynamicLossScale(scale={self.scale:g}, {self.clean_steps} clean steps)"


def _number(name: str, value: Any, above: float, below: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not above < value < below:
        upper = "" if below == math.inf else f" and below {below:g}"
        raise ValueError(f"{name}: expected a finite number above {above:g}{upper}, got {value!r}")
    return float(value)


def _whole(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected a whole number, got {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: expected at least {least}, got {number}")
    return number
