"""Call a rule's functions for the host, such as ``scalars``, once for many groups of tensors.

What all groups have in common is passed as a plain number, everything else as a :class:`Batched` of numbers, whose
arithmetic is that of Python floats, element by element and bit for bit. Where the function asks something that groups
answer differently (``if lr > 0.0``, ``max(a, b)``), it is called again for those that say yes, and for those that say
no.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

MAX_CALLS = 16
"""Maximum number of calls for all groups together, before every group has a call of its own."""


class Diverging(Exception):
    """The elements of batched numbers give different answers; ``yes`` says which (bool, one an element)."""

    def __init__(self, yes: np.ndarray) -> None:
        super().__init__()
        self.yes = yes


class Unsuitable(Exception):
    """An operation that batched numbers do not have, or that a float would refuse."""


class Batched:
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

    def __neg__(self) -> Batched:
        return Batched(-self.values)

    def __abs__(self) -> Batched:
        return Batched(np.abs(self.values))


def _power(one: Any, two: Any) -> np.ndarray:
    """Return powers as Python computes them, which numpy does not in the last bit."""
    made = [a**b for a, b in zip(*(array.tolist() for array in np.broadcast_arrays(one, two)), strict=True)]
    if not all(type(number) is float for number in made):
        raise Unsuitable
    return np.array(made)


def _operator(name: str, function: Callable[[Any, Any], Any], swapped: bool = False) -> None:
    def operator(self: Batched, other: Any) -> Batched:
        one: Any = self.values
        two: Any = other.values if type(other) is Batched else float(other)
        if swapped:
            one, two = two, one
        if function is np.true_divide and not np.all(two):
            raise Unsuitable  # Python raises an error here
        return Batched(function(one, two).astype(np.float64, copy=False))

    setattr(Batched, name, operator)


_ARITHMETIC: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "pow": _power,
}
for _name, _function in _ARITHMETIC.items():
    _operator(f"__{_name}__", _function)
    _operator(f"__r{_name}__", _function, swapped=True)
_COMPARISONS: dict[str, Any] = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
for _name, _function in _COMPARISONS.items():
    _operator(f"__{_name}__", _function)


class Same(NamedTuple):
    """An argument that is the same for all groups."""

    value: Any


Argument = Same | np.ndarray | Sequence[Any]
"""An argument of a function: the same for all groups, or one value a group (float64, where all are floats)."""


def argument(values: Sequence[Any]) -> Argument:
    """Return one value a group in the form that is called fastest."""
    first = values[0]
    numbers = np.array(values) if isinstance(first, (float, tuple)) else np.zeros(0)
    if numbers.dtype == np.float64 and len(numbers):
        same = numbers.tobytes() == numbers[:1].tobytes() * len(numbers)  # -0.0 is not 0.0
        return Same(first) if same else numbers if type(first) is float else values
    return Same(first) if all(value is first for value in values) else values


def call(function: Callable[..., Iterable[Any]], count: int, arguments: Sequence[Argument]) -> np.ndarray:
    """Call a function of floats, bools, and tuples of these for ``count`` groups; it returns some numbers.

    Return float64 (numbers, groups): what ``function(*values)`` gives for every group by itself, bit for bit.

    Raises
    ------
    Exception
        What the function raises for one of the groups.
    """
    calls = 0
    found: np.ndarray | None = None
    todo = [np.arange(count)]
    with np.errstate(all="ignore"):
        while todo:
            groups = todo.pop()
            calls += 1
            chosen = arguments if len(groups) == count else [_some(values, groups) for values in arguments]
            try:
                if calls > MAX_CALLS:
                    raise Unsuitable
                made = _together(function, len(groups), chosen)
            except Diverging as diverging:
                todo += [groups[diverging.yes], groups[~diverging.yes]]
                continue
            except (Unsuitable, TypeError, ArithmeticError, ValueError):
                made = _one_by_one(function, len(groups), chosen)
            if len(groups) == count:
                return made
            found = np.zeros((len(made), count)) if found is None else found
            found[:, groups] = made
    assert found is not None
    return found


def _together(function: Callable[..., Iterable[Any]], count: int, arguments: Sequence[Argument]) -> np.ndarray:
    numbers = list(function(*map(_batched, arguments)))
    made = np.empty((len(numbers), count))
    for row, number in zip(made, numbers, strict=True):
        row[:] = number.values if type(number) is Batched else float(number)
    return made


def _one_by_one(function: Callable[..., Iterable[Any]], count: int, arguments: Sequence[Argument]) -> np.ndarray:
    plain = [
        [values.value] * count
        if isinstance(values, Same)
        else values.tolist()
        if isinstance(values, np.ndarray)
        else values
        for values in arguments
    ]
    return np.array([tuple(function(*values)) for values in zip(*plain, strict=True)], np.float64).T


def _some(values: Argument, groups: np.ndarray) -> Argument:
    if isinstance(values, (Same, np.ndarray)):
        return values if isinstance(values, Same) else values[groups]
    return [values[group] for group in groups]


def _batched(values: Argument) -> Any:
    """Return a plain value where all are the same, a tuple of batched numbers for tuples, else batched numbers."""
    if isinstance(values, Same):
        return values.value
    if isinstance(values, np.ndarray):
        same = values.tobytes() == values[:1].tobytes() * len(values)
        return float(values[0]) if same else Batched(values)
    first = values[0]
    if not isinstance(first, tuple):
        raise Unsuitable
    parts = [_batched(argument(numbers)) for numbers in zip(*values, strict=True)]
    return tuple(parts) if type(first) is tuple else type(first)(*parts)
