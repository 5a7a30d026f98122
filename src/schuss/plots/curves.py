"""Pictures of numbers: a function of one number, losses, a sweep over learning rates, times of steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style
from .maps import PathLike, visited
from .scene import Interval, Scene, scene, spaced

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDE = 20.0
"""Largest over smallest value from which a logarithmic axis shows more."""

FEW = 8
"""Settings up to which each has its own tick."""


def curve(
    function: Any,
    runs: Mapping[str, Any] | None = None,
    *,
    gradient: Any = None,
    view: Sequence[Interval] | None = None,
    stationary: Mapping[str, Sequence[float]] | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    path: PathLike | None = None,
) -> Figure:
    """A function of one number, the points each optimizer visited on it, and its slope where they began.

    Parameters
    ----------
    function
        A :class:`schuss.problems.Problem` with one parameter, or ``f(x) -> float``.
    runs
        What each optimizer visited, by its name: an array (points,) or (points, 1), or a ``History`` recorded with
        ``record="step"``.
    gradient
        ``g(x)``, the slope; a problem brings its own. Without one there is no tangent.
    view
        ``((low, high),)`` of x, and with a second pair of the height too.
    stationary
        Points to mark: ``{"minimum": [x, ...], "maximum": [...], "local maximum": [...]}``. A problem brings its
        answer.

    The rest, and what is returned and raised, as :func:`contour`.

    Examples
    --------
    >>> from schuss import plots
    >>> figure = plots.curve(lambda x: (x - 1) ** 2, {"sgd": [3.0, 2.0, 1.5]}, view=((-2, 4),))
    >>> figure.axes[0].get_ylabel()
    'f'
    """
    seen = scene(function, 1, {"gradient": gradient, "view": view, "names": names, "title": title})
    ways = visited(runs, 1)
    drawn = style.figure(7.2, 5.0)
    axes = drawn.subplots()
    (xs,), heights = seen.grid(401)
    axes.plot(xs, heights, color="#8fa5bb", linewidth=2.6, zorder=2)
    limits = view if view is not None else getattr(function, "view", None)
    low, high = limits[1] if limits is not None and len(limits) > 1 else (np.nanmin(heights), np.nanmax(heights))
    axes.set_xlim(seen.view[0])
    axes.set_ylim(low - 0.08 * (high - low), high + 0.16 * (high - low))
    for count, (label, look) in enumerate(style.styles(ways).items()):
        way = ways[label][:, 0]
        on = np.array([seen.height(x) for x in way])
        marks = spaced(np.column_stack([way, on]), (seen.view[0], (low, high)), 12)
        axes.plot(way, on, label=label, markevery=marks, zorder=4, **look.line(linewidth=1.2))
        axes.plot(way[-1:], on[-1:], **look.end(count, len(ways)))
    if ways:
        _tangent(axes, seen, float(next(iter(ways.values()))[0, 0]), high - low)
    if seen.answer is not None:
        axes.plot(*seen.answer, seen.height(*seen.answer), linestyle="none", **style.MARKS["goal"])
    for kind, where in (stationary or ({} if seen.answer is None else {seen.end: seen.answer})).items():
        for x in where:
            other = seen.answer is not None and abs(x - seen.answer[0]) > 1e-4 * (seen.view[0][1] - seen.view[0][0])
            if other or seen.answer is None:
                shape = style.MARKS[kind if kind in style.MARKS else "minimum"]
                axes.plot([x], [seen.height(x)], linestyle="none", **shape)
            _name(axes, f"local {kind}" if other and kind == seen.end else kind, x, seen.height(x), above="max" in kind)
    style.dress(axes, seen.title, seen.names[0], seen.measure, grid=True)
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def _tangent(axes: Axes, seen: Scene, x: float, tall: float) -> None:
    y = seen.height(x)
    if seen.gradient is not None:
        slope = float(np.ravel(seen.gradient(x))[0])
        wide = seen.view[0][1] - seen.view[0][0]
        reach = 0.16 / math.hypot(1.0 / wide, slope / tall)
        axes.plot([x - reach, x + reach], [y - slope * reach, y + slope * reach], color=style.INK, linewidth=1.4)
        _name(axes, f"start: slope {slope:.3g}".replace("-", "\N{MINUS SIGN}"), x, y, above=True)
    axes.plot([x], [y], linestyle="none", **style.MARKS["start"])


def _name(axes: Axes, text: str, x: float, y: float, above: bool) -> None:
    (left, right), side = axes.get_xlim(), 1
    if x > left + 0.7 * (right - left):
        side = -1
    axes.annotate(
        text,
        (x, y),
        xytext=(12 * side, 16 if above else -18),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        color=style.INK,
        fontsize=10,
        fontweight="bold",
        zorder=7,
        path_effects=style.halo(),
    )


def losses(
    runs: Mapping[str, Any],
    *,
    title: str | None = None,
    measure: str = "loss",
    least: float | None = None,
    path: PathLike | None = None,
) -> Figure:
    """Loss curves: by epoch, and beside it by the seconds that gradients and optimizer took.

    ``runs``: a ``History`` of each optimizer, by its name, or any object with ``losses`` (the first before a step) and
    ``seconds`` of the same length, or just the losses. Without seconds there is one panel. ``least``: the lowest loss
    there can be, where it is known; it is taken away from all. A wide range of positive losses gets a logarithmic axis.
    What is returned and raised as :func:`contour`.

    >>> from schuss import plots
    >>> figure = plots.losses({"sgd": [2.0, 1.0, 0.5], "adam": [2.0, 0.6, 0.3]})
    >>> figure.axes[0].get_xlabel(), len(figure.axes)
    ('epoch', 1)
    """
    if not runs:
        raise ValueError("runs: expected losses of at least one optimizer, got none")
    timed = all(getattr(run, "seconds", None) for run in runs.values())
    drawn = style.figure(10.4 if timed else 6.6, 4.9)
    panels = drawn.subplots(1, 1 + timed, sharey=True, squeeze=False)[0]
    curves = {
        label: np.asarray(getattr(run, "losses", run), np.float64) - (least or 0.0) for label, run in runs.items()
    }
    if least is not None:  # where rounding is all that is left, a logarithm has nothing to show
        small = 1e-14 * max(float(np.nanmax(values)) for values in curves.values())
        curves = {label: np.maximum(values, small) for label, values in curves.items()}
    everything = np.concatenate(list(curves.values()))
    for number, (label, look) in enumerate(style.styles(runs).items()):
        values = curves[label]
        every = max(1, len(values) // 6)
        marks = (number * every // len(curves), every)  # not all at the same epochs, where they would hide each other
        along = [np.arange(len(values)), *([runs[label].seconds] if timed else [])]
        for panel, x in zip(panels, along, strict=True):
            panel.plot(x, values, label=label, markevery=marks, **look.line())
            panel.plot(x[-1:], values[-1:], **look.end(number, len(curves), 0.75))
    style.dress(panels[0], None, "epoch", measure if least is None else f"{measure}, above the least", grid=True)
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    if timed:
        style.dress(panels[1], None, "seconds in gradients and optimizer", grid=True)
    if _wide(everything):
        panels[0].set_yscale("log")
    drawn.suptitle(title or "", color=style.INK, fontsize=12)
    style.legend(drawn, panels[0])
    return style.finish(drawn, path)


def lr_sweep(
    results: Mapping[str, Mapping[float, float | None]],
    *,
    setting: str = "learning rate",
    title: str | None = None,
    measure: str = "loss at the end",
    path: PathLike | None = None,
) -> Figure:
    """Where each optimizer ends at every learning rate; runs that diverged stand in a strip of their own above.

    Any other number above 0 can take the learning rate's place: ``setting`` is what it is called.

    ``results``: of each optimizer, by its name, what came out by learning rate; None or a number that is not finite for
    a run that diverged. What is returned and raised as :func:`contour`.

    >>> from schuss import plots
    >>> figure = plots.lr_sweep({"sgd": {0.01: 0.9, 0.1: 0.2, 1.0: None}})
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['diverged', 'loss at the end']
    """
    if not any(results.values()):
        raise ValueError("results: expected a loss at one learning rate at least, got none")
    ended = {
        label: {rate: math.nan if value is None else float(value) for rate, value in sorted(of.items())}
        for label, of in results.items()
    }
    finite = np.array([value for of in ended.values() for value in of.values() if math.isfinite(value)])
    lost = sum(map(len, results.values())) > len(finite)
    drawn = style.figure(7.2, 5.4)
    *strip, axes = drawn.subplots(1 + lost, 1, sharex=True, squeeze=False, height_ratios=(1, 5)[1 - lost :])[:, 0]
    for number, (label, look) in enumerate(style.styles(results).items()):
        where, values = np.array(list(ended[label])), np.array(list(ended[label].values()))
        good = np.isfinite(values)
        axes.plot(where, np.where(good, values, math.nan), label=label, **look.line())
        for panel in strip:
            panel.plot(where[~good], np.full((~good).sum(), -number), **look.line(linestyle="none"))
    for panel in strip:
        panel.set_ylim(-len(results) + 0.3, 0.7)
        panel.set_yticks([])
        panel.set_facecolor("#f3efec")
        style.dress(panel, None, None, "diverged")
        panel.tick_params(which="both", bottom=False)
    drawn.suptitle(title or "", color=style.INK, fontsize=12)
    style.dress(axes, None, setting, measure, grid=True)
    axes.set_xscale("log")
    settings = sorted({rate for of in ended.values() for rate in of})
    if len(settings) <= FEW:
        axes.set_xticks(settings, [f"{value:g}" for value in settings])
        axes.minorticks_off()
    if _wide(finite):
        axes.set_yscale("log")
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def step_times(
    seconds: Mapping[str, float],
    floors: Mapping[str, float],
    *,
    title: str | None = None,
    path: PathLike | None = None,
) -> Figure:
    """The time of a step of each optimizer as a bar, and the memory's floor as a line across it.

    ``seconds`` and ``floors`` have the same names: of a step, and of a loop that only moves the same bytes. What is
    returned and raised as :func:`contour`.

    >>> from schuss import plots
    >>> figure = plots.step_times({"Adam": 0.020}, {"Adam": 0.019})
    >>> figure.axes[0].get_xlabel()
    "milliseconds a step (the floor's share of it)"
    """
    if not seconds or seconds.keys() != floors.keys():
        raise ValueError(f"floors: expected the names of seconds ({', '.join(seconds)}), got {', '.join(floors)}")
    drawn = style.figure(8.4, 1.5 + 0.42 * len(seconds))
    axes = drawn.subplots()
    longest = max(*seconds.values(), *floors.values()) * 1e3
    for row, (label, look) in enumerate(style.styles(seconds).items()):
        took, floor = seconds[label] * 1e3, floors[label] * 1e3
        axes.barh(row, took, height=0.62, color=look.color, alpha=0.85, zorder=2)
        bounds = ([floor, floor], [row - 0.42, row + 0.42])
        axes.plot(*bounds, color="white", linewidth=5.0, zorder=3, solid_capstyle="butt")
        known = None if row else "the memory's floor: a loop that only reads and writes the same"
        axes.plot(*bounds, color=style.INK, linewidth=2.4, zorder=4, label=known, solid_capstyle="butt")
        text = f"{took:.1f} ms ({floor / took:.0%})"
        axes.text(max(took, floor) + 0.012 * longest, row, text, va="center", fontsize=9, color=style.INK)
    axes.set_yticks(range(len(seconds)), list(seconds))
    axes.invert_yaxis()
    axes.set_xlim(0.0, longest * 1.2)
    style.dress(axes, title, "milliseconds a step (the floor's share of it)", None, grid=True)
    axes.grid(False, axis="y")
    axes.tick_params(axis="y", length=0, labelsize=10)
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def _wide(values: np.ndarray) -> bool:
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0.0 and values.max() > WIDE * values.min())
