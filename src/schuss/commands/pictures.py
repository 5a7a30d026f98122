"""Which pictures ``schuss demo`` draws of a problem's runs, and where it puts them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import plots
from ..core.optional import need
from ..problems import History, Problem
from . import console
from .console import CommandError
from .runs import SOME, Choice, Run, best

MANY = 8
"""Optimizers from which a picture shows one of each kind only."""

BY_CHOICE = ("curve", "contour", "losses")
"""What is drawn for each of several choices of data."""


class Album:
    """The folder that pictures go to, and what has been put there."""

    def __init__(self, folder: str, progress: console.Progress) -> None:
        self.folder = Path(folder)
        self.files: list[Path] = []
        self._progress = progress
        check_packages()
        _check_folder(self.folder)

    def add(self, name: str, draw: Callable[..., Any], *args: Any, **options: Any) -> None:
        """Draw a picture and keep it under this name.

        Raises
        ------
        CommandError
            When the file cannot be written.
        """
        path = self.folder / name
        self._progress.show(f"drawing {path}")
        try:
            draw(*args, path=path, **options)
        except OSError as error:
            raise CommandError(f"--out: {path} cannot be written ({error.strerror or error})") from None
        self._progress.clear()
        self.files.append(path)

    def __str__(self) -> str:
        return "\n".join(["Files written:", *(f"  {path}" for path in self.files)])


def check_packages(*more: tuple[str, str]) -> None:
    """Check that what draws is there, and other modules, each with the name of its package.

    Raises
    ------
    CommandError
        When one is missing, with the command that installs it.
    """
    try:
        for module, package in (("matplotlib.figure", "matplotlib"), ("scipy.optimize", "SciPy"), *more):
            need(module, package, "the demo")
    except ImportError as error:
        raise CommandError(str(error)) from None


def _check_folder(folder: Path) -> None:
    """Check that the folder takes files, before anything has been waited for."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError:
        raise CommandError(f"--out: {folder} is a file, not a folder") from None
    except OSError as error:
        raise CommandError(f"--out: {folder} cannot be written ({error.strerror or error})") from None


def draw(album: Album, problem: Problem, done: Sequence[Run], kinds: Sequence[str] | None = None) -> None:
    """Draw all pictures that these runs give, or of them only some kinds.

    Of one problem: ``losses``; with one parameter ``curve``; with two ``contour``, ``surface``, ``field`` and ``race``.
    Of several learning rates, batch sizes, strategies: ``lr``, ``batch-sizes``, ``strategies``; of the others, fewer.
    """
    choices = list(dict.fromkeys(one.choice for one in done))
    several = {
        "lr": len({one.lr for one in done if one.variant == done[0].variant}) > 1,
        "batch-sizes": sum(choice.batch_size is not None for choice in choices) > 1,
        "strategies": len(choices) > 1 and _size(problem) == 2,
    }
    for choice in choices:
        tail = f"-{choice.slug}" if len(choices) > 1 else ""
        these = [one for one in done if one.choice == choice]
        for kind in _kinds(problem, kinds):
            if len(choices) == 1 or kind in BY_CHOICE:
                _one(album, f"{problem.name}-{kind}{tail}", kind, problem, these)
        if several["lr"] and _wanted("lr", kinds):
            _sweep(album, f"{problem.name}-lr{tail}.png", problem, these, "learning rate", lambda one: one.lr)
    if several["batch-sizes"] and _wanted("batch-sizes", kinds):
        sized = [one for one in done if one.choice.batch_size is not None]
        name = f"{problem.name}-batch-sizes.png"
        _sweep(album, name, problem, sized, "batch size", lambda one: float(one.choice.batch_size or 0))
    if several["strategies"] and _wanted("strategies", kinds):
        first = [one for one in done if one.variant == done[0].variant]
        by_choice = {str(choice): best([one for one in first if one.choice == choice]) for choice in choices}
        runs = {label: one.history for label, found in by_choice.items() for one in found.values()}
        if runs:
            album.add(
                f"{problem.name}-strategies.png",
                plots.strategies,
                problem,
                runs,
                optimizer=done[0].variant.title,
                title=f"{problem.title}: {done[0].variant.title}",
            )


def _one(album: Album, name: str, kind: str, problem: Problem, done: Sequence[Run]) -> None:
    found = best(done)
    if len(found) > MANY:
        found = {title: one for title, one in found.items() if one.variant.key in (*SOME, "adamw")}
    if not found and kind != "field":
        return
    runs: dict[str, History] = {title: one.history for title, one in found.items()}
    title = f"{problem.title}\n{_length(problem, done[0].choice, runs)}"
    if kind == "losses":
        measure = "f" if problem.X is None else "loss on all data"
        least = None if problem.answer is None or problem.maximize else problem.fun(problem.vector(problem.answer))
        album.add(f"{name}.png", plots.losses, runs, title=title, measure=measure, least=least)
    elif kind == "field":
        goes = "up" if problem.maximize else "down"
        points = plots.stationary_points(problem)
        title = f"{problem.title}\nwhich way is {goes}, and where it is level"
        album.add(f"{name}.png", plots.gradient_field, problem, stationary=points, title=title)
    elif kind == "curve":
        goal = "maximum" if problem.maximize else "minimum"
        level = {goal: [at for (at,) in plots.stationary_points(problem).get(goal, [])]}
        album.add(f"{name}.png", plots.curve, problem, runs, stationary=level, title=title)
    elif kind == "race":
        album.add(f"{name}.gif", plots.race, problem, runs, title=problem.title)
    else:
        album.add(f"{name}.png", {"contour": plots.contour, "surface": plots.surface}[kind], problem, runs, title=title)


def _sweep(
    album: Album, name: str, problem: Problem, done: Sequence[Run], setting: str, of: Callable[[Run], float]
) -> None:
    results: dict[str, dict[float, float | None]] = {}
    for one in sorted(done, key=lambda one: one.value, reverse=True):  # the best of equal settings comes last and stays
        worse = one.value > -one.history.losses[0] if problem.maximize else one.value > one.history.losses[0]
        ended = None if worse or not math.isfinite(one.value) else one.history.loss  # it has not overflowed yet
        results.setdefault(one.variant.title, {})[of(one)] = ended
    order = dict.fromkeys(one.variant.title for one in done)
    epochs = max(len(one.history.losses) for one in done) - 1
    what = f"{epochs:,} epochs" if problem.X is not None else f"{epochs:,} steps"
    album.add(
        name,
        plots.lr_sweep,
        {title: results[title] for title in order},
        setting=setting,
        title=f"{problem.title}\nafter {what}",
        measure="f at the end" if problem.X is None else "loss on all data at the end",
    )


def _length(problem: Problem, choice: Choice, runs: Mapping[str, History]) -> str:
    steps = max((run.steps for run in runs.values()), default=0)
    said = f"{steps:,} step{'s' * (steps != 1)}"
    return said if problem.X is None else f"{choice}, {said}"


def _kinds(problem: Problem, kinds: Sequence[str] | None) -> list[str]:
    possible = {1: ["curve"], 2: ["contour", "surface", "field", "race"]}.get(_size(problem), [])
    possible = possible if problem.view is not None else []
    return [kind for kind in (*possible, "losses") if _wanted(kind, kinds)]


def _wanted(kind: str, kinds: Sequence[str] | None) -> bool:
    return kinds is None or kind in kinds


def _size(problem: Problem) -> int:
    return sum(array.size for array in problem.start().values())
