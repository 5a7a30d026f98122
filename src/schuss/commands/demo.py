"""What ``schuss demo`` runs: one problem as it is asked for, or a tour of all."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from .. import problems
from ..core.validate import did_you_mean
from ..optim import registry
from ..problems import Problem
from . import console, pictures, runs, steps
from .console import CommandError
from .pictures import Album
from .runs import Choice, Plan

EVERY = tuple(registry.VARIANTS)
CLASSIC = registry.CLASSIC

ORDER = ("batch", "mini-batch", "stochastic")
"""The strategies, from most data in a step to least."""


@dataclass(frozen=True)
class Settings:
    """What was asked for; None where nothing was."""

    problem: str | None = None
    optimizer: str | None = None
    strategy: str | None = None
    batch_sizes: Sequence[int] | None = None
    lrs: Sequence[float] | None = None
    epochs: int | None = None
    seed: int = 0
    out: str = "schuss-demo"


def run(settings: Settings) -> None:
    """Train, print the tables, write the pictures, and list them.

    Raises
    ------
    CommandError
        When it cannot be run as asked; nothing has been trained then.
    """
    name = None if settings.problem is None else known(settings.problem)
    keys = None if settings.optimizer is None else optimizers(settings.optimizer)
    if name is None or name == steps.NAME:
        _refuse(settings, name)
    strategies = None if settings.strategy is None else _strategies(settings.strategy)
    with console.Progress() as progress:
        if name is None:
            _tour(keys, settings, progress)
        elif name == steps.NAME:
            album = Album(settings.out, progress)
            steps.run(keys or CLASSIC, album, progress)
            print(f"\n{album}")
        else:
            _single(name, keys, strategies, settings, progress)


def _single(
    name: str, keys: list[str] | None, strategies: list[str] | None, settings: Settings, progress: console.Progress
) -> None:
    progress.show(f"{name}: reading data")
    problem = runs.make(name, settings.seed)
    plan = Plan(
        keys=keys or (CLASSIC if name == "digits_mlp" else runs.SOME),
        choices=_choices(problem, strategies, settings.batch_sizes),
        lrs=settings.lrs,
        epochs=settings.epochs,
        seed=settings.seed,
        record=problem.view is not None,
    )
    album = Album(settings.out, progress)
    progress.clear()
    print(f"{runs.about(problem, plan)}\n{textwrap.fill(problem.source, 118)}\n")
    pictures.draw(album, problem, runs.run(problem, plan, progress))
    print(f"\n{album}")


@dataclass(frozen=True)
class Chapter:
    """A stop of the tour: a problem, what it is there for, the pictures; and a comparison of settings after it."""

    problem: str
    says: str
    kinds: Sequence[str] = ()
    keys: Sequence[str] = runs.SOME
    choices: Sequence[Choice] | None = None
    lrs: Sequence[float] | None = None
    epochs: int | None = None
    sweep: Sequence[float] | None = None


SIZES = tuple(Choice("mini-batch", size) for size in (32, 64, 128))

TOUR = (
    Chapter(
        "bids_roi",
        "The slope at a point says which way the cost falls.",
        ["curve"],
        keys=("sgd",),
        lrs=[0.08],
        epochs=20,
    ),
    Chapter("sine_parabola", "Uphill, to the nearest place where the slope is 0.", ["curve"]),
    Chapter(
        "ripples", "Two numbers: the gradient points up; minima, maxima and saddles are level.", ["field", "surface"]
    ),
    Chapter("rosenbrock", "A bent valley, steep across and nearly flat along.", ["contour", "race"], epochs=300),
    Chapter(
        "quadratic",
        "The learning rate: too small is slow, too large diverges.",
        ["contour"],
        sweep=[10.0**power * digit for power in range(-4, 1) for digit in (1, 3)],
    ),
    Chapter(
        "sigmoid_neuron",
        "A neuron's cost has plains, on which plain descent hardly moves.",
        ["contour", "surface"],
        keys=("sgd", "sgd-momentum", "adagrad", "adam"),
        lrs=[0.5],
    ),
    Chapter(
        "bids_roi_100",
        "Three strategies: all data in a step, a few rows, or one.",
        ["strategies"],
        keys=("adam",),
        choices=(Choice("batch"), Choice("mini-batch", 20), Choice("stochastic")),
        lrs=[0.1],
        epochs=60,
    ),
    Chapter("linear_regression", "Hypothesis and cost on real data, against the closed form.", ["losses"]),
    Chapter("logistic_regression", "Cross-entropy on real data, against scikit-learn's solution.", ["losses"]),
    Chapter(
        "blobs_network",
        "A small network, and batches of three sizes.",
        ["batch-sizes"],
        keys=("sgd-momentum", "adam"),
        choices=SIZES,
    ),
    Chapter(
        "digits_mlp",
        "A network that reads digits, with the classic optimizers in every form.",
        ["losses"],
        keys=CLASSIC,
    ),
)


def _tour(keys: list[str] | None, settings: Settings, progress: console.Progress) -> None:
    pictures.check_packages(("sklearn.datasets", "scikit-learn"))
    album = Album(settings.out, progress)
    stops = len(TOUR) + 1
    for number, chapter in enumerate(TOUR, 1):
        progress.show(f"{chapter.problem}: reading data")
        problem = runs.make(chapter.problem, settings.seed)
        plan = Plan(
            keys=keys or chapter.keys,
            choices=chapter.choices,
            lrs=chapter.lrs,
            epochs=chapter.epochs,
            seed=settings.seed,
            record=problem.view is not None,
        )
        progress.clear()
        print(f"{number} of {stops}. {chapter.says}\n{runs.about(problem, plan)}\n")
        pictures.draw(album, problem, runs.run(problem, plan, progress), chapter.kinds)
        if chapter.sweep is not None:
            swept = runs.quiet(problem, Plan(plan.keys, lrs=chapter.sweep, seed=settings.seed, record=False), progress)
            progress.clear()
            pictures.draw(album, problem, swept, ["lr"])
        print(flush=True)
    print(f"{stops} of {stops}. The size of a real problem.")
    if steps.available():
        steps.run(keys or CLASSIC, album, progress)
    else:
        print(f"{steps.NAME}: skipped, NUMBA_DISABLE_JIT is set and nothing is compiled")
    print(f"\n{album}")


def known(name: str) -> str:
    """Return the name as problems have it; case, spaces and dashes do not matter.

    Raises
    ------
    CommandError
        When there is no such problem, with the nearest name.
    """
    names = (*problems.names(), steps.NAME)
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if plain not in names:
        raise CommandError(f"unknown problem {name!r}{did_you_mean(plain, names)} (problems: {', '.join(names)})")
    return plain


def optimizers(text: str) -> list[str]:
    """Return keys of ``VARIANTS`` from a list with commas, in their order; short names are taken too."""
    chosen = console.choose(text, (*EVERY, *registry.ALIASES), "--optimizer")
    keys = {registry.ALIASES.get(name, name) for name in chosen}
    return [key for key in EVERY if key in keys]


def _strategies(text: str) -> list[str]:
    return console.choose(text, ORDER, "--strategy")


def _refuse(settings: Settings, name: str | None) -> None:
    """Refuse settings that the tour, or steps of ResNet18, do not have."""
    asked = {
        "--strategy": settings.strategy,
        "--batch-size": settings.batch_sizes,
        "--lr": settings.lrs,
        "--epochs": settings.epochs,
    }
    for option, value in asked.items():
        if value is not None:
            if name is None:
                raise CommandError(
                    f"{option}: name the problem that it is for, as in schuss demo digits_mlp {option} ..."
                )
            raise CommandError(f"{option}: {name} only times steps; there is no data and nothing is trained")


def _choices(problem: Problem, strategies: list[str] | None, sizes: Sequence[int] | None) -> list[Choice] | None:
    """Return strategies and batch sizes that fit the problem.

    Raises
    ------
    CommandError
        For a strategy without data, a batch size that nothing would use, or one above the data.
    """
    if problem.X is None:
        for option, asked in (("--strategy", [s for s in strategies or [] if s != "batch"]), ("--batch-size", sizes)):
            if asked:
                raise CommandError(f"{option}: {problem.name} is a function without data; every step sees all of it")
        return None
    if strategies is None and sizes is None:
        return None
    strategies = strategies or ["mini-batch"]
    rows = len(problem.X)
    if sizes is not None and "mini-batch" not in strategies:
        raise CommandError(f"--batch-size: only the strategy mini-batch has one, got --strategy {','.join(strategies)}")
    for size in sizes or []:
        if size > rows:
            raise CommandError(f"--batch-size: expected at most the {rows:,} rows of {problem.name}, got {size}")
    made = []
    for strategy in strategies:
        usual = min(problem.batch_size, rows)
        made += (
            [Choice(strategy, size) for size in sizes or [usual]] if strategy == "mini-batch" else [Choice(strategy)]
        )
    return made
