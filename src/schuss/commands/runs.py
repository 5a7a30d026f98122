"""What ``schuss demo PROBLEM`` trains: every optimizer, with each choice of data and learning rate, and the table."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import problems
from ..optim import registry
from ..optim.registry import Variant
from ..problems import History, Problem
from . import console
from .console import Column, CommandError

SOME = ("sgd", "sgd-momentum", "sgd-nesterov", "adagrad", "rmsprop", "adam")
"""The optimizers that the pictures show unless others are asked for: one of each kind."""

OFTEN = 0.1
"""Seconds between two looks at the progress line."""


@dataclass(frozen=True)
class Choice:
    """Which data a step sees. ``batch_size`` is None where the strategy decides it."""

    strategy: str
    batch_size: int | None = None

    def __str__(self) -> str:
        return self.strategy if self.batch_size is None else f"{self.strategy} of {self.batch_size}"

    @property
    def slug(self) -> str:
        """Return a name that fits into the name of a file."""
        return self.strategy if self.batch_size is None else f"{self.strategy}-{self.batch_size}"


@dataclass(frozen=True)
class Run:
    """An optimizer's descent on a problem, and what came of it."""

    problem: Problem
    variant: Variant
    choice: Choice
    lr: float
    history: History

    @property
    def distance(self) -> float | None:
        """Return how far from the known answer it ended (2-norm of all parameters)."""
        answer = self.problem.answer
        if answer is None:
            return None
        return float(np.linalg.norm(self.problem.vector(self.history.params) - self.problem.vector(answer)))

    @property
    def value(self) -> float:
        """Return where it ended, the lower the better; infinite where it diverged."""
        if self.history.diverged:
            return math.inf
        return -self.history.loss if self.problem.maximize else self.history.loss


@dataclass(frozen=True)
class Plan:
    """What to run. None stands for what the problem says."""

    keys: Sequence[str] = SOME
    choices: Sequence[Choice] | None = None
    lrs: Sequence[float] | None = None
    epochs: int | None = None
    seed: int = 0
    record: bool = True
    """Whether pictures need the path."""


def usual(problem: Problem) -> Choice:
    """Return the choice of data for which a problem's learning rates were found."""
    return Choice(problem.strategy, problem.batch_size if problem.strategy == "mini-batch" else None)


def make(name: str, seed: int) -> Problem:
    """Make the problem of a name; one that has a random start or split takes it from ``seed``.

    Raises
    ------
    CommandError
        When there is none of that name, or a package that it needs is missing.
    """
    try:
        return problems.make(name, **({"seed": seed} if name == "digits_mlp" else {}))
    except ImportError as error:
        raise CommandError(str(error)) from None


def run(problem: Problem, plan: Plan, progress: console.Progress) -> list[Run]:
    """Train with everything that the plan names, and print a table as the runs end.

    Raises
    ------
    CommandError
        When the problem cannot be run in that way.
    """
    choices = plan.choices or [usual(problem)]
    columns = _columns(problem, len(choices) > 1 or choices[0] != usual(problem))
    print(console.heading(list(columns.values())), flush=True)
    done = []
    for choice in choices:
        for key in plan.keys:
            variant = registry.VARIANTS[key]
            for lr in plan.lrs or [problem.lrs.get(key, variant.demo_lr)]:
                one = _train(problem, variant, choice, lr, plan, progress)
                progress.clear()
                cells = _cells(one)
                print(console.row(list(columns.values()), [cells[name] for name in columns]), flush=True)
                done.append(one)
    return done


def quiet(problem: Problem, plan: Plan, progress: console.Progress) -> list[Run]:
    """Train with everything that the plan names, and print nothing."""
    return [
        _train(problem, registry.VARIANTS[key], choice, lr, plan, progress)
        for choice in plan.choices or [usual(problem)]
        for key in plan.keys
        for lr in plan.lrs or [problem.lrs.get(key, registry.VARIANTS[key].demo_lr)]
    ]


def best(done: Sequence[Run]) -> dict[str, Run]:
    """Return each optimizer's run that ended lowest, by its title; those that only diverged are left out."""
    found: dict[str, Run] = {}
    for one in done:
        title = one.variant.title
        if one.value < (found[title].value if title in found else math.inf):
            found[title] = one
    return found


def about(problem: Problem, plan: Plan) -> str:
    """Say in two lines what is run."""
    rows = "" if problem.X is None else f", {len(problem.X):,} rows"
    count = sum(array.size for array in problem.start().values())
    choices = " | ".join(map(str, plan.choices or [usual(problem)]))
    epochs = problem.epochs if plan.epochs is None else plan.epochs
    what = f"{epochs:,} epoch{'s' * (epochs != 1)} of {choices}" if rows else f"{epochs:,} step{'s' * (epochs != 1)}"
    return f"{problem.name}: {problem.title}\n{count:,} parameter{'s' * (count != 1)}{rows}; {what}"


def _train(
    problem: Problem, variant: Variant, choice: Choice, lr: float, plan: Plan, progress: console.Progress
) -> Run:
    epochs = problem.epochs if plan.epochs is None else plan.epochs
    what = f"{problem.name}, {variant.title}, {choice}, lr {lr:g}"
    progress.show(f"{what}: first step")
    shown = time.monotonic()

    def show(epoch: int, history: History) -> None:
        nonlocal shown
        if time.monotonic() - shown >= OFTEN:
            shown = time.monotonic()
            progress.show(f"{what}: epoch {epoch:,} of {epochs:,}, loss {history.loss:.4g}")

    try:
        history = problems.train(
            problem,
            variant.key,
            strategy=choice.strategy,
            batch_size=choice.batch_size or 1,
            epochs=epochs,
            seed=plan.seed,
            record="step" if plan.record else None,
            callback=show,
            lr=lr,
        )
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from None
    return Run(problem, variant, choice, lr, history)


def _columns(problem: Problem, choices: bool) -> dict[str, Column]:
    columns = {"optimizer": Column("\noptimizer", 26, left=True), "lr": Column("\nlr", 7)}
    if choices:
        columns["data"] = Column("\n  data", 18, left=True)
    if problem.score is not None:
        columns["accuracy"] = Column("test\naccuracy" if problem.name != "logistic_regression" else "\naccuracy", 9)
    columns["loss"] = Column("f at\nthe end" if problem.X is None else "train\nloss", 10)
    if problem.answer is not None:
        columns["distance"] = Column("distance to\nthe answer", 11)
    columns["steps"] = Column("\nsteps", 7)
    columns["ms"] = Column("ms/\nstep", 7)
    columns["share"] = Column("of it in the\noptimizer", 13)
    return columns


def _cells(one: Run) -> dict[str, str]:
    history, score = one.history, one.problem.score
    inside = statistics.median(history.optimizer_s) if history.steps else 0.0
    step = inside + (statistics.median(history.gradient_s) if history.steps else 0.0)
    distance = one.distance
    return {
        "optimizer": one.variant.title,
        "lr": f"{one.lr:g}",
        "data": f"  {one.choice}",
        "accuracy": "-" if score is None else f"{score(history.params):.1%}",
        "loss": "diverged" if history.diverged else number(history.loss),
        "distance": "-" if distance is None or history.diverged else number(distance),
        "steps": f"{history.steps:,}",
        "ms": f"{step * 1e3:.3f}" if step else "-",
        "share": f"{inside / step:.1%}" if step else "-",
    }


def number(value: float) -> str:
    """Write a value with four figures or decimals, small ones with their power of ten."""
    if value != 0.0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.1f}"
