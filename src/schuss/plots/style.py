"""How every picture looks: one colour, marker and dash for each optimizer, wherever it appears."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.optional import need
from ..optim.registry import ALIASES, VARIANTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 130

ROWS, LINE = 4, 0.21
"""How many lines of a legend a figure has room for, and how many inches one takes."""

INK = "#222222"
"""Text, and what marks start and minimum."""

QUIET = "#8a8f98"
"""Lines that only help: grids, frames, zero lines."""

LAND = ("#f9fafb", "#8fa5bb")
"""The ends of a map's colours, high and low: light and without a hue of their own, so that the paths stand out."""


@dataclass(frozen=True)
class Style:
    """What one optimizer's lines look like."""

    color: str
    marker: str
    dash: Any

    def line(self, **more: Any) -> dict[str, Any]:
        """Arguments of ``Axes.plot``; ``more`` comes on top."""
        return {
            "color": self.color,
            "linestyle": self.dash,
            "marker": self.marker,
            "markersize": 6.5,
            "markeredgecolor": "white",
            "markeredgewidth": 0.8,
            "linewidth": 1.9,
            **more,
        }

    def end(self, number: int, of: int, scale: float = 1.0) -> dict[str, Any]:
        """Arguments of ``Axes.plot`` for where a path ends; of several in one place, each shows around the next."""
        size = 15.5 - 6.5 * number / (of - 1) if of > 1 else 12.0
        return self.line(linestyle="none", markersize=size * scale, markeredgewidth=1.2, zorder=5)


# The colours of Okabe and Ito, which people with any kind of colour blindness can tell apart. Kin share a colour; no
# two share a marker, so that the lines can be told apart in grey too.
_CHOSEN = {
    "sgd": Style("#000000", "o", "-"),
    "sgd-momentum": Style("#0072B2", "s", (0, (5, 1.5))),
    "sgd-nesterov": Style("#56B4E9", "D", (0, (6, 1.5, 1.5, 1.5))),
    "adagrad": Style("#009E73", "^", (0, (1.2, 1.2))),
    "rmsprop": Style("#E69F00", "v", (0, (8, 2))),
    "rmsprop-momentum": Style("#E69F00", "<", (0, (3, 1.2))),
    "rmsprop-centered": Style("#E69F00", ">", (0, (1.2, 1.2))),
    "rmsprop-centered-momentum": Style("#E69F00", "h", (0, (6, 1.5, 1.5, 1.5))),
    "adam": Style("#D55E00", "X", "-"),
    "adam-amsgrad": Style("#D55E00", "d", (0, (3, 1.2))),
    "adamw": Style("#CC79A7", "P", (0, (6, 1.5, 1.5, 1.5, 1.5, 1.5))),
    "adamw-amsgrad": Style("#CC79A7", "p", (0, (3, 1.2))),
}

# For names that are none of ours: somebody's own rule.
SPARE = (
    Style("#6A3D9A", "8", "-"),
    Style("#7F5539", "*", (0, (5, 1.5))),
    Style("#5C677D", "H", (0, (1.2, 1.2))),
    Style("#B5179E", "o", (0, (8, 2))),
)

_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#6A3D9A",
    "#7F5539",
    "#5C677D",
    "#B5179E",
    "#000000",
)
_MARKERS = "osD^v<>hXdPp8*H"
"""Those that matplotlib fills."""
_DASHES = (
    "-",
    *((0, dash) for dash in ((5, 1.5), (1.2, 1.2), (3, 1.2), (8, 2), (6, 1.5, 1.5, 1.5), (6, 1.5, 1.5, 1.5, 1.5, 1.5))),
    *((0, dash) for dash in ((10, 1.5), (10, 1.5, 3, 1.5), (3, 1.2, 1.2, 1.2), (1.2, 2.4), (10, 1.5, 1.2, 1.5))),
)


def _alike(look: Style) -> set[tuple[str, str]]:
    """What no other look should have: each two of colour, marker and dash."""
    return {(look.color, look.marker), (look.color, str(look.dash)), (look.marker, str(look.dash))}


def _further(taken: Iterable[Style]) -> Iterator[Style]:
    """Looks without end, in turns of all colours. No two have two of colour, marker and dash in common, nor has one
    with any of those ``taken``, for as long as there are such: over eighty. They then come again."""
    used = set().union(*map(_alike, taken))
    made: list[Style] = []
    open_colors = list(_COLORS)
    while open_colors:
        for color in tuple(open_colors):
            looks = (Style(color, marker, dash) for dash, marker in product(_DASHES, _MARKERS))
            look = next((look for look in looks if not used & _alike(look)), None)
            if look is None:
                open_colors.remove(color)
            else:
                used |= _alike(look)
                made.append(look)
                yield look
    while True:
        yield from made


def _of_all() -> dict[str, Style]:
    further = _further((*_CHOSEN.values(), *SPARE))
    return {key: _CHOSEN.get(key) or next(further) for key in VARIANTS}


STYLES = _of_all()
"""The look of every optimizer there is: one that was chosen, or the next that is not taken."""

MARKS: dict[str, dict[str, Any]] = {
    "start": {"marker": "o", "markersize": 11, "color": "white", "markeredgewidth": 2.2, "zorder": 6},
    "goal": {"marker": "*", "markersize": 24, "color": "#FFD84D", "markeredgewidth": 1.3, "zorder": 3.5},
    "minimum": {"marker": "v", "markersize": 11, "color": "white", "markeredgewidth": 1.8, "zorder": 3.6},
    "maximum": {"marker": "^", "markersize": 11, "color": "white", "markeredgewidth": 1.8, "zorder": 3.6},
    "saddle": {"marker": "X", "markersize": 11, "color": "white", "markeredgewidth": 1.8, "zorder": 3.6},
}
"""Points that are no optimizer's, all with a dark edge. A star lies below the paths that reach it."""

for _look in MARKS.values():
    _look["markeredgecolor"] = INK


def styles(labels: Any) -> dict[str, Style]:
    """The style of each label: an optimizer's own, ``"SGD momentum"`` as ``"sgd-momentum"``; else a spare one."""
    found = {}
    spare = chain(SPARE, _further((*STYLES.values(), *SPARE)))
    for label in labels:
        key = label.lower().replace(",", "").replace(" ", "-").replace("_", "-")
        found[label] = STYLES.get(ALIASES.get(key, key)) or next(spare)
    return found


def figure(width: float, height: float, layout: str = "constrained") -> Figure:
    """An empty figure of so many inches that needs no display and leaves pyplot's state alone.

    Raises
    ------
    ImportError
        When matplotlib is not installed.
    """
    made = need("matplotlib.figure", "matplotlib", "a picture")
    return made.Figure(figsize=(width, height), dpi=DPI, layout=layout)


def dress(axes: Any, title: str | None = None, x: str | None = None, y: str | None = None, grid: bool = False) -> None:
    """Titles, names of the axes, and a frame that does not shout."""
    if title:
        axes.set_title(title, color=INK, fontsize=12, pad=9)
    if x:
        axes.set_xlabel(x)
    if y:
        axes.set_ylabel(y)
    for side in axes.spines.values():
        side.set_color(QUIET)
    axes.tick_params(colors=INK, labelsize=9)
    if grid:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(True, color=QUIET, alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)


def legend(drawn: Figure, axes: Axes, columns: int = 4) -> None:
    """One legend below everything, where it hides nothing; a long one makes the figure higher."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        rows = -(-len(labels) // columns)
        if rows > ROWS:
            width, height = drawn.get_size_inches()
            drawn.set_size_inches(width, height + LINE * (rows - ROWS))
        drawn.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(columns, len(labels)),
            frameon=False,
            handlelength=3.4,
            fontsize=10,
        )


def halo(width: float = 3.0) -> list[Any]:
    """A white rim that keeps lines and words readable on anything."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=width, foreground="white", alpha=0.9)]


def finish(drawn: Figure, path: str | os.PathLike[str] | None, save: Callable[[Path], None] | None = None) -> Figure:
    """Write the figure to ``path`` where there is one, and give it back."""
    if path is not None:
        (save or drawn.savefig)(Path(path))
    return drawn
