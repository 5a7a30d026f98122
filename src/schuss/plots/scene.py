"""What is drawn: a function of one or two numbers, and the ways optimizers took on it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.optional import need
from ..problems import Problem

Interval = tuple[float, float]

CELLS = 40
"""Cells in each direction that are searched for stationary points."""


@dataclass(frozen=True)
class Scene:
    """A function of one or two numbers, the part of it that is looked at, and what is known about it."""

    height: Callable[..., float]
    gradient: Callable[..., Sequence[float]] | None
    names: tuple[str, ...]
    view: tuple[Interval, ...]
    title: str
    start: tuple[float, ...] | None
    answer: tuple[float, ...] | None
    maximize: bool
    measure: str

    @property
    def end(self) -> str:
        """What an optimizer looks for."""
        return "maximum" if self.maximize else "minimum"

    def grid(self, points: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Evenly spaced values of each number, and the heights there: (points,), or (points, points) by y and x.

        The function is called point by point: one that adds up over its data would give something else for arrays.
        """
        lines = [np.linspace(low, high, points) for low, high in self.view]
        if len(lines) == 1:
            heights = np.array([self.height(x) for x in lines[0]], np.float64)
        else:
            heights = np.array([[self.height(x, y) for x in lines[0]] for y in lines[1]], np.float64)
        if not np.isfinite(heights).any():
            raise ValueError("function: it is nowhere finite within the view")
        return lines, heights


def scene(function: Any, dimensions: int, given: Mapping[str, Any]) -> Scene:
    """From a :class:`schuss.problems.Problem`, or a plain function; ``given`` (not None) overrides what is known.

    Raises
    ------
    TypeError, ValueError
        For what is neither, for a number of parameters that cannot be drawn this way, and for a view that is none.
    """
    known = _of_problem(function, dimensions) if isinstance(function, Problem) else _of_callable(function, dimensions)
    known |= {name: value for name, value in given.items() if value is not None}
    if known["view"] is None:
        raise ValueError(f"view: expected {dimensions} pair(s) (low, high) of what to look at, got None")
    view = tuple((float(low), float(high)) for low, high in known["view"])[:dimensions]
    if len(view) < dimensions or not all(
        math.isfinite(low) and math.isfinite(high) and low < high for low, high in view
    ):
        raise ValueError(f"view: expected {dimensions} pair(s) (low, high) of finite numbers, got {known['view']!r}")
    for name in ("start", "answer"):
        if known[name] is not None:
            known[name] = tuple(float(value) for value in np.ravel(known[name]))
    return Scene(**{**known, "view": view, "names": tuple(known["names"])})


def _of_callable(function: Any, dimensions: int) -> dict[str, Any]:
    if not callable(function):
        raise TypeError(f"function: expected a function of {dimensions} number(s) or a problem, got {function!r}")
    return {
        "height": function,
        "gradient": None,
        "names": ("x", "y")[:dimensions],
        "view": None,
        "title": "",
        "start": None,
        "answer": None,
        "maximize": False,
        "measure": "f",
    }


def _of_problem(problem: Problem, dimensions: int) -> dict[str, Any]:
    start = problem.start()
    names = parameter_names(start)
    if len(names) != dimensions:
        raise ValueError(f"function: {problem.name} has {len(names)} parameters; this picture shows {dimensions}")
    data = () if problem.X is None else (problem.X, problem.y)
    return {
        "height": lambda *values: problem.fun(np.array(values), *data),
        "gradient": lambda *values: problem.jac(np.array(values), *data),
        "names": names,
        "view": problem.view,
        "title": problem.title,
        "start": flat(start),
        "answer": None if problem.answer is None else problem.vector(problem.answer),
        "maximize": problem.maximize,
        "measure": "f" if problem.X is None else "loss",
    }


def parameter_names(params: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """``w`` for an array of one number, ``w[0]``, ``w[1]`` for more."""
    names: list[str] = []
    for name, array in params.items():
        names += [name] if array.size == 1 else [f"{name}[{number}]" for number in range(array.size)]
    return tuple(names)


def flat(params: Mapping[str, np.ndarray]) -> np.ndarray:
    """All numbers of named arrays, one after the other."""
    return np.concatenate([np.ravel(array) for array in params.values()]).astype(np.float64)


def points(label: str, run: Any, dimensions: int) -> np.ndarray:
    """The points a run visited, (points, dimensions) float64, up to the first that is not finite.

    ``run`` is an array of that shape, or has a ``path`` of points or of named arrays.
    """
    visited = getattr(run, "path", run)
    if visited is None or len(visited) == 0:
        raise ValueError(f"runs: {label!r} has no path; record it with record='step'")
    if isinstance(visited[0], Mapping):
        visited = [flat(point) for point in visited]
    array = np.asarray(visited, np.float64)
    array = array.reshape(len(array), -1)
    if array.shape[1] != dimensions:
        raise ValueError(f"runs: {label!r} has points of {array.shape[1]} numbers; this picture shows {dimensions}")
    finite = np.isfinite(array).all(axis=1)
    return array if finite.all() else array[: int(finite.argmin())]


def spaced(path: np.ndarray, view: Sequence[Interval], count: int) -> list[int]:
    """Indices of about ``count`` points of a path that lie evenly along it as drawn, so that markers do not crowd."""
    scale = np.array([high - low for low, high in view])
    lengths = np.linalg.norm(np.diff(path, axis=0) / scale, axis=1)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    return sorted({int(np.searchsorted(along, where)) for where in np.linspace(0.0, along[-1], count + 1)[1:]})


def levels(heights: np.ndarray, count: int) -> np.ndarray:
    """Heights of contour lines, closer together below where most of the map is low, as in a narrow valley."""
    finite = heights[np.isfinite(heights)]
    low, high = float(finite.min()), float(finite.max())
    if not low < high:
        return np.array([low, low + 1.0])
    middle = (float(np.median(finite)) - low) / (high - low)
    power = min(5.0, max(1.0, math.log(max(middle, 1e-9)) / math.log(0.5)))
    return low + (high - low) * np.linspace(0.0, 1.0, count) ** power


def stationary_points(
    function: Any, gradient: Any = None, *, view: Sequence[Interval] | None = None
) -> dict[str, list]:
    """Where the gradient of a function of one or two numbers is zero within a view, and what is there.

    Looked for in each cell of a fine grid in which every slope changes its sign, with ``scipy.optimize.root``.

    Parameters
    ----------
    function, gradient, view
        As in :func:`gradient_field`, or :func:`curve` for one number; a problem is enough.

    Returns
    -------
    dict
        Lists of points under ``"minimum"``, ``"maximum"`` and ``"saddle"``, what there is of them.

    Raises
    ------
    ImportError
        When SciPy is not installed.

    Examples
    --------
    >>> from schuss import plots
    >>> found = plots.stationary_points(lambda x, y: x * x - y * y, lambda x, y: (2 * x, -2 * y),
    ...                                 view=((-1, 1), (-1.1, 1)))
    >>> [kind for kind in found], [len(points) for points in found.values()]
    (['saddle'], [1])
    """
    optimize = need("scipy.optimize", "SciPy", "stationary_points")
    dimensions = len(view) if view is not None else 2
    if isinstance(function, Problem):
        dimensions = flat(function.start()).size
    seen = scene(function, dimensions, {"gradient": gradient, "view": view})
    if seen.gradient is None:
        raise ValueError("gradient: expected a function of the point, got None")

    def slopes(point: Sequence[float]) -> np.ndarray:
        assert seen.gradient is not None
        return np.asarray(seen.gradient(*point), np.float64).ravel()

    lines = [np.linspace(low, high, CELLS + 1) for low, high in seen.view]
    field = np.array([slopes(point) for point in itertools.product(*lines)]).reshape(
        *[CELLS + 1] * dimensions, dimensions
    )
    signs = field > 0.0
    steepest = float(np.abs(field).max())
    found: dict[str, list] = {}
    met: list[np.ndarray] = []
    size = np.array([high - low for low, high in seen.view])
    for cell in itertools.product(range(CELLS), repeat=dimensions):
        corners = signs[tuple(slice(at, at + 2) for at in cell)].reshape(-1, dimensions)
        if (corners.all(axis=0) | ~corners.any(axis=0)).any():
            continue
        middle = np.array([line[at : at + 2].mean() for line, at in zip(lines, cell, strict=True)])
        at = optimize.root(slopes, middle).x
        near = all(low <= x <= high for x, (low, high) in zip(at, seen.view, strict=True))
        new = all(np.abs((at - other) / size).max() > 1e-4 for other in met)
        if near and new and np.abs(slopes(at)).max() <= 1e-6 * steepest:
            met.append(at)
            found.setdefault(_kind(slopes, at, size), []).append(tuple(at.tolist()))
    return found


def _kind(slopes: Callable[[Sequence[float]], np.ndarray], at: np.ndarray, size: np.ndarray) -> str:
    """Whether it is a minimum, maximum or saddle: by the signs of the Hessian's eigenvalues, from differences."""
    steps = np.diag(1e-5 * size)
    hessian = np.array([(slopes(at + step) - slopes(at - step)) / (2.0 * step.max()) for step in steps])
    curvatures = np.linalg.eigvalsh((hessian + hessian.T) / 2.0)
    return "minimum" if curvatures.min() > 0.0 else "maximum" if curvatures.max() < 0.0 else "saddle"
