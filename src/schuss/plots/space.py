"""Pictures of a function of two numbers as a surface in space: still, and the race down it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style
from .maps import Pair, PathLike, View, places, visited
from .scene import Scene, levels, scene, spaced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID = 81
"""Points of a surface in each direction."""

ANGLE = (42.0, -60.0)


def surface(
    function: Any,
    runs: Mapping[str, Any] | None = None,
    *,
    view: View | None = None,
    start: Pair | None = None,
    answer: Pair | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    angle: tuple[float, float] | None = None,
    path: PathLike | None = None,
) -> Figure:
    """The function as a surface in space, with the path of each optimizer lying on it.

    ``angle``: elevation and azimuth of the eye in degrees (default: from where most of the paths is seen).
    The rest as :func:`contour`.

    >>> from schuss import plots
    >>> figure = plots.surface(lambda x, y: x * x + 4 * y * y, view=((-3, 3), (-2, 2)))
    >>> figure.axes[0].get_zlabel()
    'f'
    """
    seen = scene(function, 2, {"view": view, "start": start, "answer": answer, "names": names, "title": title})
    ways = visited(runs, 2)
    drawn = style.figure(7.2, 6.4)
    axes = drawn.add_subplot(projection="3d", computed_zorder=False)
    relief(axes, seen, ways, angle)
    for number, (label, look) in enumerate(style.styles(ways).items()):
        x, y, z = lifted(seen, ways[label])
        axes.plot(x, y, z, zorder=4, color="white", linewidth=3.5, alpha=0.9)
        marks = spaced(ways[label], seen.view, 7)
        axes.plot(x, y, z, label=label, markevery=marks, zorder=5, **look.line())
        axes.plot(x[-1:], y[-1:], z[-1:], **look.end(number, len(ways)))
    mark(axes, seen, ways)
    style.legend(drawn, axes)
    return style.finish(drawn, path)


def relief(axes: Any, seen: Scene, ways: Mapping[str, np.ndarray], angle: tuple[float, float] | None) -> None:
    """The surface and its axes, seen from ``angle`` or from where the paths are seen best."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    (xs, ys), z = seen.grid(GRID)
    steps = levels(-z if seen.maximize else z, 24)
    steps = -steps[::-1] if seen.maximize else steps
    colors = LinearSegmentedColormap.from_list("land", style.LAND if seen.maximize else style.LAND[::-1])
    axes.plot_surface(
        *np.meshgrid(xs, ys),
        z,
        cmap=colors,
        norm=BoundaryNorm(steps, 256),
        rcount=GRID,
        ccount=GRID,
        linewidth=0.0,
        antialiased=False,
        zorder=1,
    )
    axes.set_box_aspect(None, zoom=1.04)
    axes.view_init(*(angle or (ANGLE[0], best_angle(seen, z, ways, ANGLE[0]))))
    style.dress(axes, None, seen.names[0], seen.names[1])
    axes.figure.suptitle(seen.title, color=style.INK, fontsize=12)
    axes.set_zlabel(seen.measure)
    axes.set_xlim(seen.view[0])
    axes.set_ylim(seen.view[1])
    axes.tick_params(labelsize=8)


def lifted(seen: Scene, way: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A path's two numbers and the height at each of its points; NaN outside the view, where no frame would cut it."""
    low, high = np.array(seen.view).T
    shown = np.where(((way >= low) & (way <= high)).all(axis=1)[:, None], way, np.nan)
    heights = [seen.height(*point) if np.isfinite(point).all() else np.nan for point in shown]
    return shown[:, 0], shown[:, 1], np.array(heights, np.float64)


def best_angle(seen: Scene, surface: np.ndarray, ways: Mapping[str, np.ndarray], elevation: float) -> float:
    """The azimuth from which most of the paths, of start and minimum are seen, and not hidden behind the surface.

    From each point a ray goes towards the eye; it is hidden where the surface is above the ray.
    """
    low, high = np.array(seen.view).T
    spots = [(way[:: max(1, len(way) // 60)] - low) / (high - low) for way in ways.values()]
    spots += [(np.array([place]) - low) / (high - low) for place, _ in places(seen, ways) for _ in range(20)]
    if not spots:
        return ANGLE[1]
    ground = np.concatenate(spots)
    ground = ground[((ground >= 0.0) & (ground <= 1.0)).all(axis=1)]
    bottom, top = np.nanmin(surface), np.nanmax(surface)
    shape = (surface - bottom) / (top - bottom or 1.0) * 0.75  # the box is three quarters as high as it is wide

    def height(at: np.ndarray) -> np.ndarray:
        column, line = np.moveaxis(np.clip(np.rint(at * (len(shape) - 1)), 0, len(shape) - 1).astype(int), -1, 0)
        return shape[line, column]

    rise = np.tan(np.radians(elevation))
    along = np.linspace(0.02, 1.5, 75)

    def hidden(azimuth: float) -> float:
        direction = np.array([np.cos(np.radians(azimuth)), np.sin(np.radians(azimuth))])
        rays = ground[:, None, :] + along[None, :, None] * direction
        inside = ((rays >= 0.0) & (rays <= 1.0)).all(axis=2)
        below = height(rays) > height(ground)[:, None] + along * rise + 0.01
        return float((inside & below).any(axis=1).mean()) + abs(azimuth - ANGLE[1]) / 3600

    return min((ANGLE[1] + 15.0 * turn for turn in range(-11, 13)), key=hidden)


def mark(axes: Any, seen: Scene, ways: Mapping[str, np.ndarray]) -> list[Any]:
    """Start and minimum, named; what belongs on top of everything."""
    above = []
    for place, what in places(seen, ways):
        x, y, z = lifted(seen, np.array([place]))
        point = axes.plot(x, y, z, linestyle="none", **style.MARKS["start" if what == "start" else "goal"])
        text = axes.text(x[0], y[0], z[0], f"   {what}", zorder=9, fontsize=10, fontweight="bold", color=style.INK)
        text.set_path_effects(style.halo())
        above += [text, *(point if what == "start" else [])]
    return above


def race(
    function: Any,
    runs: Mapping[str, Any],
    *,
    path: PathLike,
    seconds: float = 6.0,
    frames: int = 60,
    view: View | None = None,
    start: Pair | None = None,
    answer: Pair | None = None,
    names: Sequence[str] | None = None,
    title: str | None = None,
    angle: tuple[float, float] | None = None,
) -> Figure:
    """An animation (GIF) of the optimizers on their way down the surface, step by step and all at the same pace.

    Parameters
    ----------
    path
        The file to write; its name ends in ``.gif``. It plays again and again, and rests at the end.
    seconds, frames
        How long the way down lasts, and in how many pictures. Runs of different lengths wait at their ends.

    The rest as :func:`surface`.

    Returns
    -------
    matplotlib.figure.Figure
        The last picture.

    Examples
    --------
    >>> import os, tempfile
    >>> from schuss import plots
    >>> way = [(2.0, 1.0), (1.0, 0.2), (0.5, 0.0)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     name = os.path.join(folder, "race.gif")
    ...     figure = plots.race(lambda x, y: x * x + y * y, {"adam": way}, path=name, view=((-3, 3), (-2, 2)), frames=3)
    ...     os.path.getsize(name) > 0
    True
    """
    if Path(path).suffix.lower() != ".gif":
        raise ValueError(f"path: expected the name of a .gif file, got {str(path)!r}")
    if not runs or frames < 2 or not seconds > 0.0:
        raise ValueError(
            f"expected runs, seconds above 0 and frames of at least 2, got {len(runs)}, {seconds}, {frames}"
        )
    seen = scene(function, 2, {"view": view, "start": start, "answer": answer, "names": names, "title": title})
    ways = visited(runs, 2)
    drawn = style.figure(5.6, 5.4)
    drawn.set_dpi(100)
    axes = drawn.add_subplot(projection="3d", computed_zorder=False)
    relief(axes, seen, ways, angle)
    stage = _Stage(drawn, axes, seen, ways, mark(axes, seen, ways))
    longest = max(map(len, ways.values())) - 1
    pictures = [stage.picture(step) for step in np.unique(np.linspace(0, longest, frames).round().astype(int))]
    pause = round(1000.0 * seconds / len(pictures))
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[pause] * (len(pictures) - 1) + [2500],
        loop=0,
        optimize=True,
        disposal=1,
    )
    return drawn


class _Stage:
    """What stands still is drawn once; only the trails, the runners and the number of the step are new each time."""

    def __init__(
        self, drawn: Figure, axes: Any, seen: Scene, ways: Mapping[str, np.ndarray], words: Sequence[Any]
    ) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self._canvas, self._axes = FigureCanvasAgg(drawn), axes
        self._ways = {label: lifted(seen, way) for label, way in ways.items()}
        self._lines = {}
        self._words = words
        for number, (label, look) in enumerate(style.styles(ways).items()):
            rim = axes.plot([], [], [], color="white", linewidth=3.5, alpha=0.9, zorder=4)[0]
            trail = axes.plot([], [], [], zorder=5, **look.line(marker=""))[0]
            runner = axes.plot([], [], [], **look.end(number, len(ways)))
            axes.plot([], [], [], label=label, **look.line(markersize=9))
            self._lines[label] = (rim, trail, runner[0])
        self._count = drawn.text(0.03, 0.93, "", fontsize=11, color=style.INK)
        style.legend(drawn, axes, columns=3)
        moving = (self._count, *(line for lines in self._lines.values() for line in lines))
        for artist in moving:
            artist.set_animated(True)
        self._canvas.draw()
        self._still = self._canvas.copy_from_bbox(drawn.bbox)
        self._palette = self._colors([look.color for look in style.styles(ways).values()])
        for artist in moving:
            artist.set_animated(False)

    def picture(self, step: int) -> Any:
        """How it looks after so many steps, as a Pillow image."""
        from PIL import Image

        self._canvas.restore_region(self._still)
        self._count.set_text(f"step {step}")
        for label, (x, y, z) in self._ways.items():
            rim, trail, runner = self._lines[label]
            here = min(step, len(x) - 1)
            for line in (rim, trail):
                line.set_data_3d(x[: here + 1], y[: here + 1], z[: here + 1])
            runner.set_data_3d(x[here : here + 1], y[here : here + 1], z[here : here + 1])
        for part in range(3):
            for lines in self._lines.values():
                self._axes.draw_artist(lines[part])
        for word in (self._count, *self._words):
            self._axes.draw_artist(word)
        return self._image().quantize(palette=self._palette, dither=Image.Dither.NONE)

    def _colors(self, own: Sequence[str]) -> Any:
        """A palette for all pictures, as a Pillow image: exact those of the runners and their edges."""
        from matplotlib.colors import to_rgb
        from PIL import Image

        exact = np.array([to_rgb(color) for color in ("white", style.INK, style.MARKS["minimum"]["color"], *own)])
        edges = [exact * part + (1.0 - part) for part in (1.0, 0.75, 0.5, 0.25)]  # where they run out into white
        colors = (np.concatenate(edges) * 255).round().astype(np.uint8).tolist()
        still = self._image().quantize(256 - len(colors), dither=Image.Dither.NONE).getpalette()
        for color in zip(*[iter(still)] * 3, strict=True):
            colors.append([255, 255, 255] if min(color) >= 248 else list(color))  # nothing that is nearly white
        palette = Image.new("P", (1, 1))
        palette.putpalette([value for color in colors for value in color])
        return palette

    def _image(self) -> Any:
        from PIL import Image

        size = self._canvas.get_width_height()
        return Image.frombuffer("RGBA", size, self._canvas.buffer_rgba(), "raw", "RGBA", 0, 1).convert("RGB")
