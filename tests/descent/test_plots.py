"""schuss.plots: each picture shows what it was given, in a fixed look, and refuses what it cannot show."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import itertools
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

from matplotlib.colors import to_hex, to_rgb
from PIL import Image
from scipy import optimize

from schuss import plots, problems
from schuss.optim import registry
from schuss.plots import scene, style

VIEW = ((-3.0, 3.0), (-2.0, 2.0))
WAY = np.array([(2.0, 1.5), (1.0, -0.5), (0.2, 0.1)])
OTHER = np.array([(2.0, 1.5), (1.5, 0.5), (1.0, 0.2), (0.6, 0.1)])


def bowl(x, y):
    return x * x + 4.0 * y * y


def slopes(x, y):
    return 2.0 * x, 8.0 * y


def lines(axes):
    """The lines of a panel that have a name."""
    return {line.get_label(): line for line in axes.get_lines() if not line.get_label().startswith("_")}


def stars(axes):
    return [np.ravel(line.get_xydata()).tolist() for line in axes.get_lines() if line.get_marker() == "*"]


@pytest.fixture(scope="module")
def rosenbrock():
    problem = problems.rosenbrock()
    return problem, {name: problems.train(problem, name, epochs=20, record="step") for name in ("momentum", "adam")}


def test_every_optimizer_has_a_look_of_its_own():
    assert set(style.STYLES) == set(registry.VARIANTS)
    looks = (*style.STYLES.values(), *style.SPARE)
    assert len({(look.color, str(look.dash)) for look in looks}) == len(looks)
    assert len({(look.marker, str(look.dash)) for look in looks}) == len(looks)  # without colour
    assert len({(look.color, look.marker) for look in looks}) == len(looks)  # where paths end


@pytest.mark.parametrize("variant", registry.VARIANTS.values(), ids=str)
def test_a_look_goes_with_the_name_however_written(variant):
    names = (variant.key, variant.title, variant.key.replace("-", "_").upper())
    assert {style.styles([name])[name] for name in names} == {style.STYLES[variant.key]}


def test_short_and_unknown_names():
    found = style.styles(["momentum", "mine", "yours"])
    assert found["momentum"] == style.STYLES["sgd-momentum"]
    assert (found["mine"], found["yours"]) == style.SPARE[:2]


def test_styles_never_run_out():
    labels = [f"rule {number}" for number in range(300)]
    found = style.styles(["adam", *labels])
    assert list(found) == ["adam", *labels]
    assert found["adam"] == style.STYLES["adam"]
    few = [found[label] for label in labels[:12]]
    assert len({*few, *style.STYLES.values()}) == 12 + len(style.STYLES)


def test_a_long_legend_makes_the_figure_higher():
    short, long = (
        plots.contour(bowl, {f"rule {number}": OTHER for number in range(count)}, view=VIEW) for count in (16, 60)
    )
    for drawn in (short, long):
        drawn.draw_without_rendering()
    assert len(long.legends[0].get_texts()) == 60
    sizes = [drawn.axes[0].get_window_extent().size for drawn in (short, long)]
    assert long.get_figheight() > short.get_figheight()
    np.testing.assert_allclose(*sizes, rtol=0.02)


def test_contour(tmp_path):
    path = tmp_path / "map.png"
    drawn = plots.contour(
        bowl, {"adam": WAY, "SGD": OTHER}, view=VIEW, answer=(0, 0), names=("w", "b"), title="bowl", path=path
    )
    axes = drawn.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("w", "b", "bowl")
    assert (axes.get_xlim(), axes.get_ylim()) == VIEW
    shown = lines(axes)
    assert list(shown) == ["adam", "SGD"]
    np.testing.assert_array_equal(shown["adam"].get_xydata(), WAY)
    np.testing.assert_array_equal(shown["SGD"].get_xydata(), OTHER)
    for name, line in shown.items():
        assert (line.get_color(), line.get_marker()) == (
            style.styles([name])[name].color,
            style.styles([name])[name].marker,
        )
    assert stars(axes) == [[0.0, 0.0]]
    assert {text.get_text() for text in axes.texts} == {"start", "minimum"}
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["adam", "SGD"]
    with Image.open(path) as image:
        assert image.format == "PNG"
        colors = {color for _, color in image.convert("RGB").getcolors(1 << 20)}
    for look in ("adam", "sgd"):
        assert tuple(round(255 * part) for part in to_rgb(style.STYLES[look].color)) in colors


@pytest.mark.parametrize("picture", [plots.contour, plots.surface])
def test_a_problem_brings_its_own(picture, rosenbrock):
    problem, runs = rosenbrock
    drawn = picture(problem, runs)
    axes = drawn.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert (*axes.get_xlim(), *axes.get_ylim()) == (*problem.view[0], *problem.view[1])
    assert {"start", "minimum"} <= {text.get_text().strip() for text in axes.texts}
    assert set(lines(axes)) == {"momentum", "adam"}


def test_heights_are_those_of_the_function_at_each_point():
    """The loss of data adds up over rows: called with a whole grid it would be something else."""
    problem = problems.sigmoid_neuron("A")
    (xs, ys), heights = scene.scene(problem, 2, {}).grid(5)
    for (row, y), (column, x) in itertools.product(enumerate(ys), enumerate(xs)):
        assert heights[row, column] == problem.loss({"w": np.array([x]), "b": np.array([y])})


def test_a_path_ends_before_it_is_not_finite():
    way = np.array([(1.0, 1.0), (0.5, 0.5), (np.inf, 0.0), (0.1, 0.1)])
    assert scene.points("sgd", way, 2).tolist() == [[1.0, 1.0], [0.5, 0.5]]


def test_contour_lines_are_closer_where_the_map_is_low():
    steps = np.diff(scene.levels(np.array([0.0, 0.1, 0.2, 0.3, 100.0]), 10))
    assert (np.diff(steps) > 0.0).all()
    even = np.diff(scene.levels(np.linspace(0.0, 1.0, 101), 11))
    np.testing.assert_allclose(even, 0.1)


def test_surface_lays_paths_on_the_function():
    drawn = plots.surface(bowl, {"adam": WAY}, view=VIEW, angle=(30.0, 45.0))
    axes = drawn.axes[0]
    x, y, z = lines(axes)["adam"].get_data_3d()
    np.testing.assert_array_equal(np.stack([x, y], axis=1), WAY)
    np.testing.assert_array_equal(z, bowl(*WAY.T))
    assert (axes.elev, axes.azim) == (30.0, 45.0)


def test_surface_leaves_out_what_is_outside():
    x, _, z = lines(plots.surface(bowl, {"adam": [(2.0, 1.0), (4.0, 0.0), (1.0, 0.0)]}, view=VIEW).axes[0])[
        "adam"
    ].get_data_3d()
    assert x.tolist()[::2] == [2.0, 1.0]
    assert np.isnan([x[1], z[1]]).all()


def test_surface_is_seen_from_where_the_path_is_not_hidden():
    """A wall at low x hides what lies behind it from an eye at low x."""
    drawn = plots.surface(lambda x, y: 50.0 * (x < -1.0), {"sgd": [(0.0, 0.0), (0.1, 0.5)]}, view=VIEW)
    assert np.cos(np.radians(drawn.axes[0].azim)) > 0.0


@pytest.mark.parametrize("maximize", [False, True])
def test_arrows_point_downhill_or_uphill(maximize):
    problem = dataclasses.replace(problems.quadratic(condition=4.0), maximize=maximize)
    drawn = plots.gradient_field(problem)
    (arrows,) = [each for each in drawn.axes[0].collections if hasattr(each, "U")]
    for x, y, u, v in zip(arrows.X, arrows.Y, arrows.U.ravel(), arrows.V.ravel(), strict=True):
        gx, gy = problem.jac(np.array([x, y]))
        np.testing.assert_allclose(u * gy, v * gx, atol=1e-12)  # along the gradient's line
        assert (u * gx + v * gy > 0.0) == maximize


def level(low, high):
    """Where 25 sin x - x**2 is level between two numbers."""
    return optimize.brentq(lambda x: 25.0 * np.cos(x) - 2.0 * x, low, high)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (
            problems.sine_parabola(),
            {"maximum": [level(-5, -4), level(1, 2), level(7, 8)], "minimum": [level(-2, -1), level(5, 6)]},
        ),
        (problems.rosenbrock(), {"minimum": [(1.0, 1.0)]}),
        (problems.quadratic(), {"minimum": [(0.0, 0.0)]}),
        (problems.bids_roi(), {"minimum": [(3.0 + 20.0 - 3.0 * 0.167) / 5.0]}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_stationary_points(problem, expected):
    found = plots.stationary_points(problem)
    assert set(found) == set(expected)
    for kind, points in expected.items():
        np.testing.assert_allclose(sorted(found[kind]), np.reshape(points, (len(points), -1)), rtol=1e-4, atol=1e-7)


def test_stationary_points_of_ripples_are_level():
    problem = problems.ripples()
    found = plots.stationary_points(problem)
    assert set(found) == {"minimum", "maximum", "saddle"}
    for kind, points in found.items():
        for point in points:
            np.testing.assert_allclose(problem.jac(np.array(point)), 0.0, atol=1e-6)
            around = [
                problem.fun(np.array(point) + 1e-3 * np.array([np.cos(t), np.sin(t)])) for t in np.arange(0, 6, 0.25)
            ]
            above = np.array(around) > problem.fun(np.array(point))
            assert {"minimum": above.all(), "maximum": not above.any()}.get(kind, 0 < above.sum() < len(above)), point


def test_curve():
    problem = problems.bids_roi()
    run = problems.train(problem, "sgd", lr=0.08, epochs=4, record="step")
    axes = plots.curve(problem, {"SGD": run}).axes[0]
    x, y = lines(axes)["SGD"].get_data()
    np.testing.assert_allclose(x, [1.0, 3.80, 4.36, 4.47, 4.49], atol=5e-3)
    np.testing.assert_array_equal(y, [problem.fun(np.array([value])) for value in x])
    slope = problem.jac(np.array([1.0])).item()
    assert f"start: slope \N{MINUS SIGN}{-slope:.3g}" in {text.get_text() for text in axes.texts}
    tangents = [line for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_label() != "SGD"]
    (rise, run_) = (np.diff(tangents[0].get_ydata()), np.diff(tangents[0].get_xdata()))
    np.testing.assert_allclose(rise / run_, slope)


def test_losses():
    runs = {
        "adam": SimpleNamespace(losses=[100.0, 1.0, 0.1], seconds=[0.0, 0.2, 0.4]),
        "sgd": SimpleNamespace(losses=[100.0, 50.0, 20.0], seconds=[0.0, 0.1, 0.2]),
    }
    left, right = plots.losses(runs).axes
    assert (left.get_xlabel(), right.get_xlabel()) == ("epoch", "seconds in gradients and optimizer")
    assert left.get_yscale() == "log"
    assert lines(left)["adam"].get_xydata().tolist() == [[0, 100.0], [1, 1.0], [2, 0.1]]
    assert lines(right)["sgd"].get_xydata().tolist() == [[0.0, 100.0], [0.1, 50.0], [0.2, 20.0]]


def test_losses_above_the_least():
    (axes,) = plots.losses({"sgd": [5.0, 3.0, 2.0]}, least=2.0).axes
    assert lines(axes)["sgd"].get_ydata().tolist() == [3.0, 1.0, 3e-14]
    assert axes.get_ylabel() == "loss, above the least"


def test_a_narrow_range_is_not_logarithmic():
    assert plots.losses({"sgd": [3.0, 2.0, 1.0]}).axes[0].get_yscale() == "linear"
    assert plots.losses({"sgd": [100.0, 2.0, -1.0]}).axes[0].get_yscale() == "linear"


def test_lr_sweep():
    results = {"sgd": {0.1: 0.5, 0.01: 0.9, 1.0: None}, "adam": {0.01: 0.2, 0.1: float("nan"), 1.0: float("inf")}}
    strip, axes = plots.lr_sweep(results).axes
    assert axes.get_xscale() == "log"
    np.testing.assert_array_equal(lines(axes)["sgd"].get_xydata(), [[0.01, 0.9], [0.1, 0.5], [1.0, np.nan]])
    assert [line.get_xdata().tolist() for line in strip.get_lines()] == [[1.0], [0.1, 1.0]]
    assert len({float(line.get_ydata()[0]) for line in strip.get_lines()}) == 2  # they do not hide each other
    (alone,) = plots.lr_sweep({"sgd": {32: 0.5, 64: 0.6}}, setting="batch size").axes
    assert alone.get_xlabel() == "batch size"
    assert [text.get_text() for text in alone.get_xticklabels()] == ["32", "64"]


def test_strategies():
    history = SimpleNamespace(path=list(OTHER), losses=[3.0, 2.0])
    drawn = plots.strategies(bowl, {"batch": WAY, "stochastic": history}, optimizer="adam", view=VIEW)
    left, right = drawn.axes[:2]
    assert (left.get_title(), right.get_title()) == ("batch\n2 steps", "stochastic\n3 steps in 1 epoch")
    assert lines(left)["adam"].get_color() == lines(right)["adam"].get_color() == style.STYLES["adam"].color
    np.testing.assert_array_equal(lines(right)["adam"].get_xydata(), OTHER)


def test_step_times():
    axes = plots.step_times({"Adam": 0.020, "SGD": 0.010}, {"Adam": 0.019, "SGD": 0.0095}).axes[0]
    assert [bar.get_width() for bar in axes.patches] == [20.0, 10.0]
    assert [to_hex(bar.get_facecolor()).upper() for bar in axes.patches] == [
        style.STYLES[k].color for k in ("adam", "sgd")
    ]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["Adam", "SGD"]
    floors = [line.get_xdata()[0] for line in axes.get_lines() if line.get_color() == style.INK]
    assert floors == [19.0, 9.5]
    assert [text.get_text() for text in axes.texts] == ["20.0 ms (95%)", "10.0 ms (95%)"]


def test_race(tmp_path):
    path = tmp_path / "race.gif"
    plots.race(bowl, {"adam": WAY, "sgd": OTHER}, path=path, view=VIEW, answer=(0, 0), seconds=2.0, frames=4)
    adam = tuple(round(255 * part) for part in to_rgb(style.STYLES["adam"].color))
    with Image.open(path) as image:
        assert (image.format, image.n_frames, image.info["loop"]) == ("GIF", 4, 0)
        seen, pauses = [], []
        for number in range(4):
            image.seek(number)
            pauses.append(image.info["duration"])
            pixels = np.array(image.convert("RGB"))
            upper = pixels[: int(0.85 * len(pixels))]  # without the legend
            seen.append(np.argwhere((upper == adam).all(axis=2)).mean(axis=0))
    assert pauses == [500, 500, 500, 2500]
    assert np.abs(seen[1] - seen[0]).max() > 5  # it moves
    assert path.stat().st_size < 300_000


def test_race_is_small_enough_for_a_page(tmp_path, rosenbrock):
    problem, runs = rosenbrock
    plots.race(problem, runs, path=tmp_path / "race.gif")
    assert (tmp_path / "race.gif").stat().st_size < 300_000


PICTURES = {
    "contour": lambda *a, **k: plots.contour(*a, **{"view": VIEW, **k}),
    "surface": lambda *a, **k: plots.surface(*a, **{"view": VIEW, **k}),
    "race": lambda *a, **k: plots.race(*a, **{"view": VIEW, "path": "x.gif", **k}),
    "strategies": lambda *a, **k: plots.strategies(*a, **{"view": VIEW, **k}),
}


@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
@pytest.mark.parametrize(
    ("function", "runs", "options", "error", "said"),
    [
        (7, {"sgd": WAY}, {}, TypeError, "function: expected a function of 2 number"),
        (problems.bids_roi(), {"sgd": WAY}, {}, ValueError, "bids_roi has 1 parameters; this picture shows 2"),
        (bowl, {"sgd": WAY}, {"view": None}, ValueError, r"view: expected 2 pair\(s\)"),
        (bowl, {"sgd": WAY}, {"view": ((0, 1),)}, ValueError, r"view: expected 2 pair\(s\)"),
        (bowl, {"sgd": WAY}, {"view": ((1, 0), (0, 1))}, ValueError, r"view: expected 2 pair\(s\)"),
        (bowl, {"sgd": WAY}, {"view": ((0, float("inf")), (0, 1))}, ValueError, r"view: expected 2 pair\(s\)"),
        (bowl, {"sgd": WAY[:, :1]}, {}, ValueError, "'sgd' has points of 1 numbers; this picture shows 2"),
        (bowl, {"sgd": SimpleNamespace(path=[])}, {}, ValueError, "'sgd' has no path; record it with record='step'"),
        (lambda x, y: float("nan"), {"sgd": WAY}, {}, ValueError, "function: it is nowhere finite"),
    ],
)
def test_what_cannot_be_drawn(picture, function, runs, options, error, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said):
        picture(function, runs, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: plots.gradient_field(bowl, view=VIEW), "gradient: expected a function"),
        (lambda: plots.stationary_points(bowl, view=VIEW), "gradient: expected a function"),
        (lambda: plots.losses({}), "runs: expected losses of at least one"),
        (lambda: plots.lr_sweep({"sgd": {}}), "results: expected a loss at one"),
        (lambda: plots.strategies(bowl, {}, view=VIEW), "runs: expected a path for each"),
        (lambda: plots.step_times({"sgd": 1.0}, {"adam": 1.0}), "floors: expected the names of seconds"),
        (lambda: plots.race(bowl, {"sgd": WAY}, path="race.png", view=VIEW), "path: expected the name of a .gif"),
        (lambda: plots.race(bowl, {}, path="race.gif", view=VIEW), "expected runs"),
    ],
)
def test_arguments(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"a picture needs matplotlib: pip install 'schuss\[demo\]'"):
        plots.losses({"sgd": [1.0, 0.5]})


def test_headless_and_light():
    code = (
        "import sys, schuss; assert 'matplotlib' not in sys.modules; schuss.plots;"
        "assert 'matplotlib' not in sys.modules;"
        "schuss.plots.surface(lambda x, y: x * y, view=((-1, 1), (-1, 1)));"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env={"PATH": ""})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["curves", "maps", "scene", "space", "style"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"schuss.plots.{name}"))
    assert result.failed == 0
