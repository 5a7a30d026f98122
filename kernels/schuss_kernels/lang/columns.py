"""Call a rule's functions for the host, such as ``scalars``, once for many groups of tensors.

What all groups have in common is passed as a plain number, everything else as a :class:`Column` of numbers, whose
arithmetic is that of Python floats, element by element and bit for bit. Where the function asks something that groups
answer differently (``if lr > 0.0``, ``max(a, b)``), it is called again for those that say yes, and for those that say
no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

MAX_CALLS = 16
"""Maximum number of calls for all groups together, before every group has a call of its own."""


class Diverging(Exception):
    """The elements of a column give different answers; ``yes`` says which (bool, one an element)."""

    def __init__(self, yes: np.ndarray) -> None:
        super().__init__()
        self.yes = yes


class Unsuitable(Exception):
    """An operation that columns do not have, or that a float would refuse."""


class Column:
    """Numbers, one a group. ``values``: float64 (groups); of a comparison 1.0 and 0.0."""

    __slots__ = ("values",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __bool__(self) -> bool:
        yes = self.values != 0.0
        if yes.all() or not yes.any():
            return bool(yes[0])
        raise Diverging(yes)

    def __float__(self) -> float:  # for functions of math
        same = self.values == self.values[0]
        if same.all():
            return float(self.values[0])
        raise Diverging(same) if same.any() else Unsuitable

    def __neg__(self) -> Column:
        return Column(-self.values)

    def __abs__(self) -> Column:
        return Column(np.abs(self.values))


def _operator(name: str, function: Callable[[Any, Any], Any], swapped: bool = False) -> None:
    def operator(self: Column, other: Any) -> Column:
        one: Any = self.values
        two: Any = other.values if type(other) is Column else float(other)
        if swapped:
            one, two = two, one
        if function is np.true_divide and not np.all(two):
            raise Unsuitable  # Python raises an error here
        return Column(function(one, two).astype(np.float64, copy=False))

    setattr(Column, name, operator)


for _name, _function in {"add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide}.items():
    _operator(f"__{_name}__", _function)
    _operator(f"__r{_name}__", _function, swapped=True)
for _name, _function in {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}.items():
    _operator(f"__{_name}__", _function)


def call(function: Callable[..., Iterable[Any]], arguments: Sequence[Sequence[Any] | np.ndarray]) -> np.ndarray:
    """Call a function of floats, bools, and tuples of these for many groups; it returns some numbers.

    ``arguments``: for every argument one value a group. Return float64 (numbers, groups): what ``function(*values)``
    gives for every group by itself, bit for bit.

    Raises
    ------
    Exception
        What the function raises for one of the groups.
    """
    count, calls = len(arguments[0]), 0
    found: np.ndarray | None = None
    todo = [np.arange(count)]
    with np.errstate(all="ignore"):
        while todo:
            groups = todo.pop()
            calls += 1
            chosen = arguments if len(groups) == count else [_some(values, groups) for values in arguments]
            try:
                made = _together(function, chosen) if calls <= MAX_CALLS else _one_by_one(function, chosen)
            except Diverging as diverging:
                todo += [groups[diverging.yes], groups[~diverging.yes]]
                continue
            except (Unsuitable, TypeError, ArithmeticError, ValueError):
                made = _one_by_one(function, chosen)
            if len(groups) == count:
                return made
            found = np.zeros((len(made), count)) if found is None else found
            found[:, groups] = made
    assert found is not None
    return found


def _together(function: Callable[..., Iterable[Any]], arguments: Sequence[Sequence[Any] | np.ndarray]) -> np.ndarray:
    numbers = list(function(*map(_column, arguments)))
    made = np.empty((len(numbers), len(arguments[0])))
    for row, number in zip(made, numbers, strict=True):
        row[:] = number.values if type(number) is Column else float(number)
    return made


def _one_by_one(function: Callable[..., Iterable[Any]], arguments: Sequence[Sequence[Any] | np.ndarray]) -> np.ndarray:
    plain = [values.tolist() if isinstance(values, np.ndarray) else values for values in arguments]
    return np.array([tuple(function(*values)) for values in zip(*plain, strict=True)], np.float64).T


def _some(values: Sequence[Any] | np.ndarray, groups: np.ndarray) -> Sequence[Any] | np.ndarray:
    return values[groups] if isinstance(values, np.ndarray) else [values[group] for group in groups]


def _column(values: Sequence[Any] | np.ndarray) -> Any:
    """Return a plain value where all are the same, a tuple of columns for tuples, else a column."""
    first = values[0]
    if not isinstance(values, np.ndarray):
        if isinstance(first, tuple):
            parts = [_column(numbers) for numbers in zip(*values, strict=True)]
            return tuple(parts) if type(first) is tuple else type(first)(*parts)
        if all(value is first for value in values):
            return first
        if type(first) is not float:
            raise Unsuitable
        values = np.array(values, np.float64)
    same = values.tobytes() == values[:1].tobytes() * len(values)  # -0.0 is not 0.0
    return float(first) if same else Column(values)
