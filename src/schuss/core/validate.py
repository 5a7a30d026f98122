"""What an option may be: numbers, whole numbers and flags as plain Python has them, and hints for error messages."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """Return what a NumPy scalar, or an array without axes, holds; anything else as it is."""
    return value.item() if isinstance(value, np.generic) or (type(value) is np.ndarray and value.ndim == 0) else value


def number(value: Any) -> float:
    """Return a number as a float: a NumPy scalar and an array without axes are numbers too, a bool is none.

    What is beyond float64 comes back as an infinity.

    Raises
    ------
    TypeError
        For what is no number.
    """
    if type(value) is float:
        return value
    held = plain(value)
    if isinstance(held, bool) or not isinstance(held, (int, float, np.floating)):
        raise TypeError("expected a number")
    try:
        return float(held)
    except OverflowError:
        return math.inf if held > 0 else -math.inf


def whole(value: Any) -> int:
    """Return a whole number as an int: a NumPy scalar and an array without axes are whole numbers too, a bool is none.

    Raises
    ------
    TypeError, ValueError
        For what is no whole number; the second for a bool.
    """
    held = plain(value)
    if isinstance(held, bool):
        raise ValueError("expected a whole number")
    try:
        return operator.index(held)
    except TypeError:
        raise TypeError("expected a whole number") from None


def flag(value: Any) -> bool:
    """Return True or False, which may come as NumPy's.

    Raises
    ------
    TypeError
        For what is neither.
    """
    held = plain(value)
    if not isinstance(held, bool):
        raise TypeError("expected True or False")
    return held


def shown(value: Any) -> str:
    """Return the repr of what a user passed, cut short in the middle where it is long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        return f"a number of about {math.log10(abs(value)):.0f} digits"
    return text if len(text) <= 60 else f"{text[:40]}...{text[-12:]}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``", did you mean 'adamw'?"`` where a known name is near, else an empty string."""
    import difflib  # here: only mistakes need it

    near = difflib.get_close_matches(name, list(known), 1)
    return f", did you mean {near[0]!r}?" if near else ""
