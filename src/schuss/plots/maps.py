"""Pictures of a function of two numbers, seen from above: contour map, gradient field, data strategies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style
from .scene import Interval, Scene, levels, points, scene, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]
Pair = Sequence[float]
View = Sequence[Interval]

GRID = 121
"""Points of a map in each direction."""

ARROWS = 20
"""Arrows of a gradient field in each direction."""

SIDES = ((1, -1), (1, 1), (-1, 1), (-1, -1))
"""Where the name of a point may stand, the best first."""


def contour(
    function: Any,
    runs: Mapping[str, Any] | None = None,
    *,
    view: View | None = None,
    start: Pair | None = None,
    answer: Pair | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    path: PathLike | None = None,
) -> Figure:
    """A contour map with the path of each optimizer on it; start and minimum are marked.

    Parameters
    ----------
    function
        A :class:`schuss.problems.Problem` with two parameters, or ``f(x, y) -> float``, called point by point.
    runs
        What each optimizer visited, by its name: an array (points, 2), or a ``History`` recorded with
        ``record="step"``. Names of schuss's optimizers (``"adam"``, ``"SGD momentum"``) have a fixed look.
    view
        ``((x low, x high), (y low, y high))``; a problem brings its own, and so for what follows.
    start, answer
        Where the runs began (default: their first point) and the minimum.
    names, title
        Of the two axes and of the picture.
    path
        A file to write, PNG, SVG or PDF by its name.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    TypeError, ValueError
        For a function, run or view that cannot be drawn.

    Examples
    --------
    >>> from schuss import plots
    >>> way = [(2.0, 1.0), (1.0, 0.2), (0.5, 0.0)]
    >>> figure = plots.contour(lambda x, y: x * x + 4 * y * y, {"adam": way}, view=((-3, 3), (-2, 2)), answer=(0, 0))
    >>> [axes.get_xlabel() for axes in figure.axes][0]
    'x'
    """
    given = {"view": view, "start": start, "answer": answer, "names": names, "title": title}
    seen = scene(function, 2, given)
    drawn = style.figure(7.2, 6.4, "compressed")
    axes = drawn.subplots()
    land(drawn, axes, seen)
    _paths(axes, seen, visited(runs, 2))
    style.dress(axes, seen.title, seen.names[0], seen.names[1])
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def gradient_field(
    function: Any,
    gradient: Callable[[float, float], Sequence[float]] | None = None,
    *,
    view: View | None = None,
    stationary: Mapping[str, Sequence[Pair]] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    path: PathLike | None = None,
) -> Figure:
    """Where plain descent would go from everywhere: arrows against the gradient (along it for a maximum) on a map.

    Longer arrows are steeper; their lengths grow with the root of the slope, or only the steepest places would be seen.

    Parameters
    ----------
    gradient
        ``g(x, y) -> (df/dx, df/dy)``; a problem brings its own.
    stationary
        Points to mark, by what they are: ``{"minimum": [(x, y), ...], "saddle": [...], "maximum": [...]}``.

    The rest as :func:`contour`.

    >>> from schuss import plots
    >>> figure = plots.gradient_field(lambda x, y: x * x - y * y, lambda x, y: (2 * x, -2 * y),
    ...                               view=((-1, 1), (-1, 1)), stationary={"saddle": [(0, 0)]})
    >>> figure.axes[0].get_ylabel()
    'y'
    """
    seen = scene(function, 2, {"view": view, "gradient": gradient, "names": names, "title": title})
    if seen.gradient is None:
        raise ValueError("gradient: expected a function of (x, y), got None")
    drawn = style.figure(7.2, 6.4, "compressed")
    axes = drawn.subplots()
    land(drawn, axes, seen)
    xs, ys = (np.linspace(low, high, ARROWS + 2)[1:-1] for low, high in seen.view)
    field = np.array([[np.asarray(seen.gradient(x, y), np.float64).ravel() for x in xs] for y in ys])
    arrows = _arrows(field if seen.maximize else -field, seen.view)
    axes.quiver(
        xs,
        ys,
        arrows[..., 0],
        arrows[..., 1],
        angles="xy",
        scale_units="xy",
        scale=1.0,
        pivot="mid",
        color=style.STYLES["sgd-momentum"].color,
        width=0.0034,
        headwidth=4.2,
        minshaft=1.6,
        zorder=3,
    )
    if seen.answer is not None:
        axes.plot(*seen.answer, linestyle="none", **style.MARKS["goal"])
    for kind, places in (stationary or {}).items():
        for number, place in enumerate(places):
            look = style.MARKS[kind if kind in style.MARKS else "minimum"]
            axes.plot(*place, linestyle="none", label=None if number else kind, **look)
    style.dress(axes, seen.title, seen.names[0], seen.names[1])
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def strategies(
    function: Any,
    runs: Mapping[str, Any],
    *,
    optimizer: str = "sgd",
    view: View | None = None,
    start: Pair | None = None,
    answer: Pair | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    path: PathLike | None = None,
) -> Figure:
    """The data strategies side by side: the path of one optimizer with each, on the same map.

    ``runs``: a path by the name of each strategy, such as ``"batch"``, ``"mini-batch"``, ``"stochastic"``; a
    ``History`` also says how many steps an epoch took. ``optimizer`` gives the paths its look. The rest as
    :func:`contour`.

    >>> from schuss import plots
    >>> ways = {"batch": [(2, 1), (1, 0)], "stochastic": [(2, 1), (1.5, 1.2), (1, 0)]}
    >>> figure = plots.strategies(lambda x, y: x * x + y * y, ways, view=((-3, 3), (-2, 2)))
    >>> [axes.get_title() for axes in figure.axes if axes.get_title()]
    ['batch\\n1 step', 'stochastic\\n2 steps']
    """
    if not runs:
        raise ValueError("runs: expected a path for each strategy, got none")
    seen = scene(function, 2, {"view": view, "start": start, "answer": answer, "names": names, "title": title})
    look = style.styles([optimizer])[optimizer]
    drawn = style.figure(4.1 * len(runs) + 0.7, 4.9)
    panels = drawn.subplots(1, len(runs), sharex=True, sharey=True, squeeze=False)[0]
    heights = seen.grid(GRID)
    for panel, (label, run) in zip(panels, runs.items(), strict=True):
        land(drawn, panel, seen, heights, bar=panel is panels[-1])
        way = points(label, run, 2)
        _path(panel, seen, way, look, optimizer, width=1.2)
        panel.plot(*way[-1:].T, **look.end(0, 1))
        _mark(panel, seen, {label: way})
        style.dress(panel, f"{label}\n{_length(run, len(way) - 1)}", seen.names[0])
    panels[0].set_ylabel(seen.names[1])
    drawn.suptitle(seen.title, color=style.INK, fontsize=12)
    return style.finish(drawn, path)


def _length(run: Any, steps: int) -> str:
    epochs = len(getattr(run, "losses", ())) - 1  # the first is that of the start
    said = f"{steps:,} step{'s' * (steps != 1)}"
    return f"{said} in {epochs:,} epoch{'s' * (epochs != 1)}" if epochs > 0 else said


def visited(runs: Mapping[str, Any] | None, dimensions: int) -> dict[str, np.ndarray]:
    """The points of each run, by its name."""
    return {label: points(label, run, dimensions) for label, run in (runs or {}).items()}


def places(seen: Scene, ways: Mapping[str, np.ndarray]) -> list[tuple[tuple[float, ...], str]]:
    """What is to be marked: where the runs began, where they should end."""
    marked: list[tuple[tuple[float, ...], str]] = []
    start = tuple(next(iter(ways.values()))[0]) if ways else seen.start
    if seen.answer is not None:
        marked.append((seen.answer, seen.end))
    if start is not None and ways:
        marked.append((start, "start"))
    return [(place, mark) for place, mark in marked if _inside(place, seen.view)]


def land(
    drawn: Figure,
    axes: Axes,
    seen: Scene,
    heights: tuple[list[np.ndarray], np.ndarray] | None = None,
    bar: bool = True,
) -> None:
    """The map itself: light bands, thin lines between them, and what height they stand for."""
    from matplotlib.colors import LinearSegmentedColormap

    (xs, ys), z = heights or seen.grid(GRID)
    steps = levels(-z if seen.maximize else z, 15)
    steps = -steps[::-1] if seen.maximize else steps
    ends = style.LAND[::-1] if not seen.maximize else style.LAND
    colors = LinearSegmentedColormap.from_list("land", ends)(np.linspace(0.0, 1.0, len(steps) - 1))
    bands = axes.contourf(xs, ys, z, steps, colors=colors)
    axes.contour(xs, ys, z, steps, colors="white", linewidths=0.7, linestyles="solid")
    axes.set_xlim(seen.view[0])
    axes.set_ylim(seen.view[1])
    width, height = (high - low for low, high in seen.view)
    if 0.6 < width / height < 1.7:
        axes.set_aspect("equal")  # a gradient then leaves a contour line squarely
    if bar:
        scale = drawn.colorbar(bands, ax=axes, ticks=steps[::2], shrink=0.8, pad=0.02)
        scale.ax.set_title(seen.measure, fontsize=10, loc="left", pad=8)
        scale.ax.tick_params(labelsize=8, length=0)
        scale.ax.set_yticklabels([number(value, float(steps[-1] - steps[0])) for value in steps[::2]])
        scale.outline.set_visible(False)


def number(value: float, span: float) -> str:
    """A height for a scale: no more figures than tell one from the next."""
    if abs(value) < 1e-9 * span:
        return "0"
    rounded = float(f"{value:.2g}")
    text = f"{rounded:,.0f}" if 10.0 <= abs(rounded) < 1e6 else f"{rounded:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _paths(axes: Axes, seen: Scene, ways: Mapping[str, np.ndarray]) -> None:
    for number, (label, look) in enumerate(style.styles(ways).items()):
        _path(axes, seen, ways[label], look, label)
        axes.plot(*ways[label][-1:].T, **look.end(number, len(ways)))
    _mark(axes, seen, ways)


def _path(axes: Axes, seen: Scene, way: np.ndarray, look: style.Style, label: str, width: float = 1.9) -> None:
    """A line with a white rim and a few markers on it."""
    rim: dict[str, Any] = {"color": "white", "linewidth": width + 1.6, "alpha": 0.9}
    axes.plot(*way.T, zorder=3.9, **rim)
    axes.plot(*way.T, label=label, markevery=spaced(way, seen.view, 7), zorder=4, **look.line(linewidth=width))


def _mark(axes: Any, seen: Scene, ways: Mapping[str, np.ndarray]) -> None:
    """Start and minimum, each named on the side where fewest paths run."""
    (left, right), (low, high) = seen.view
    ground, size = np.array([left, low]), np.array([right - left, high - low])
    taken = np.concatenate([(_dense(way) - ground) / size for way in ways.values()]) if ways else np.empty((0, 2))
    for place, what in places(seen, ways):
        axes.plot(*place, linestyle="none", **style.MARKS["start" if what == "start" else "goal"])
        here = (np.array(place) - ground) / size
        side = min(SIDES, key=lambda side: _crowd(here, side, len(what), taken))
        text = axes.annotate(
            what,
            place,
            xytext=(side[0] * 12, side[1] * 15),
            textcoords="offset points",
            ha="left" if side[0] > 0 else "right",
            va="center",
            color=style.INK,
            fontsize=10,
            fontweight="bold",
            zorder=7,
        )
        text.set_path_effects(style.halo())


def _dense(way: np.ndarray) -> np.ndarray:
    """A path with points between its points, so that long steps count as what they cover."""
    parts = np.linspace(0.0, 1.0, 9)[:, None, None]
    return (way[:-1] * (1.0 - parts) + way[1:] * parts).reshape(-1, way.shape[1]) if len(way) > 1 else way


def _crowd(here: np.ndarray, side: tuple[int, int], letters: int, taken: np.ndarray) -> float:
    """How much of the paths a word on this side of a point would cover; far more where it would leave the frame."""
    half = np.array([0.01 * letters, 0.03])  # of the word, as a share of the map
    center = here + np.array(side) * (half + np.array([0.02, 0.01]))
    covered = (np.abs(taken - center) < half).all(axis=1).sum()
    outside = not ((center > half) & (center < 1.0 - half)).all()
    return float(covered) + 1e9 * outside


def _inside(place: Pair, view: Sequence[Interval]) -> bool:
    return all(low <= value <= high for value, (low, high) in zip(place, view, strict=True))


def _arrows(field: np.ndarray, view: Sequence[Interval]) -> np.ndarray:
    """Arrows as long as at most one cell of their lattice, in the units of the axes."""
    cell = np.array([(high - low) / (ARROWS + 1) for low, high in view])
    steepness = np.linalg.norm(field, axis=2)
    steepest = float(np.nanmax(steepness)) or 1.0
    reach = (0.1 + 0.9 * np.sqrt(steepness / steepest)) * (steepness > 1e-9 * steepest)
    in_cells = np.linalg.norm(field / cell, axis=2)
    return field / np.where(in_cells > 0.0, in_cells, 1.0)[..., None] * reach[..., None]
