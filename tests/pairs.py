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


def pairwise(allowed: Callable[[dict[str, Any]], bool] | None = None, **axes: Axis) -> Any:
    """Parametrize a test over the pairs of its axes' values, in an order that is always the same.

    Parameters
    ----------
    allowed
        Whether a combination can be, from a dict of axes and values. It is asked about incomplete ones too.
    axes
        Argument of the test -> its values; a dict gives them names. ``backend`` goes through the fixture of that name.
    """
    made = rows(allowed, **axes)
    if EVERY:
        points = [_points(axis) for axis in axes.values()]
        left = [_row(row) for row in itertools.product(*points) if _may(allowed, list(axes), row)]
        known = {row.id for row in made}
        made += [
            pytest.param(*row.values, marks=(*row.marks, pytest.mark.full), id=row.id)
            for row in left
            if row.id not in known
        ]
    return pytest.mark.parametrize(list(axes), made, indirect=["backend"] if "backend" in axes else False)


def rows(allowed: Callable[[dict[str, Any]], bool] | None = None, **axes: Axis) -> list[Any]:
    """The combinations in which all pairs that are allowed meet, as pytest's parameters; of two axes, all."""
    points = [_points(axis) for axis in axes.values()]
    indices = [list(range(len(axis))) for axis in points]

    def picked(row: Any) -> list[Any]:
        return [axis[index] for axis, index in zip(points, row, strict=False)]

    def may(row: Any) -> bool:
        return _may(allowed, list(axes), picked(row))

    found = filter(may, itertools.product(*indices)) if len(axes) <= 2 else AllPairs(indices, filter_func=may)
    return [_row(picked(row)) for row in found]


def _points(axis: Axis) -> list[Any]:
    """The values of an axis as pytest's parameters, each with a name."""
    named = axis.items() if isinstance(axis, Mapping) else ((None, value) for value in axis)
    made = []
    for name, value in named:
        point = value if hasattr(value, "marks") else pytest.param(value)
        if name is None:
            name = point.id or getattr(point.values[0], "__name__", None) or str(point.values[0])
        made.append(pytest.param(*point.values, marks=point.marks, id=name))
    return made


def _row(points: Iterable[Any]) -> Any:
    """One combination of an axis's value each."""
    points = list(points)
    marks = [mark for point in points for mark in point.marks]
    return pytest.param(*(point.values[0] for point in points), marks=marks, id="-".join(p.id for p in points if p.id))


def _may(allowed: Any, names: list[str], points: Iterable[Any]) -> bool:
    return allowed is None or allowed({name: p.values[0] for name, p in zip(names, points, strict=False)})
