"""Combinations in pairs: every two values of any two axes of a test meet in at least one of its runs.

Nearly all faults need one value or two to show, and the runs for all pairs are few. ``pytest -m full`` makes the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from allpairspy import AllPairs

EVERY = False
"""Whether the combinations that no pair needs are made too, marked ``full``. Set by ``conftest.py``."""

Axis = Mapping[str, Any] | Iterable[Any]


def pairwise(allowed: Callable[[dict[str, Any]], bool] | None = None, full: bool = True, **axes: Axis) -> Any:
    """Parametrize a test over the pairs of its axes' values, in an order that is always the same.

    Parameters
    ----------
    allowed
        Whether a combination can be, from a dict of axes and values. It is asked about incomplete ones too.
    full
        Whether ``-m full`` makes all other combinations; not where there are millions.
    axes
        Argument of the test -> its values; a dict gives them names. ``backend`` goes through the fixture of that name.
    """
    points = [_points(axis) for axis in axes.values()]
    chosen = chosen_rows([range(len(axis)) for axis in points], _by_index(allowed, list(axes), points))
    rows = [(row, ()) for row in chosen]
    if EVERY and full:
        left = itertools.product(*(range(len(axis)) for axis in points))
        may = _by_index(allowed, list(axes), points) or (lambda row: True)
        rows += [(row, (pytest.mark.full,)) for row in left if row not in set(chosen) and may(row)]
    made = []
    for row, marks in rows:
        taken = [axis[index] for axis, index in zip(points, row, strict=True)]
        marks = (*marks, *(mark for point in taken for mark in point.marks))
        name = "-".join(point.id for point in taken)
        made.append(pytest.param(*(point.values[0] for point in taken), marks=marks, id=name))
    return pytest.mark.parametrize(list(axes), made, indirect=["backend"] if "backend" in axes else False)


def chosen_rows(axes: list[Any], allowed: Callable[[Any], bool] | None = None) -> list[tuple[Any, ...]]:
    """The fewest rows found in which all pairs that are allowed meet; of two axes, all combinations."""
    if len(axes) <= 2:
        return [row for row in itertools.product(*axes) if allowed is None or allowed(row)]
    return [tuple(row) for row in AllPairs([list(axis) for axis in axes], filter_func=allowed or (lambda row: True))]


def _points(axis: Axis) -> list[Any]:
    """The values of an axis as pytest's parameters, each with a name."""
    named = axis.items() if isinstance(axis, Mapping) else ((None, value) for value in axis)
    made = []
    for name, value in named:
        point = value if hasattr(value, "marks") else pytest.param(value)
        name = name or point.id or getattr(point.values[0], "__name__", None) or str(point.values[0])
        made.append(pytest.param(*point.values, marks=point.marks, id=name))
    return made


def _by_index(allowed: Any, names: list[str], points: list[Any]) -> Callable[[Any], bool] | None:
    if allowed is None:
        return None
    return lambda row: allowed(
        {name: axis[index].values[0] for name, axis, index in zip(names, points, row, strict=False)}
    )
