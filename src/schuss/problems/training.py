"""An optimizer at work on a problem, and what it did."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..descent import batches as strategies
from ..descent.batches import batches
from ..descent.objective import quiet
from ..optim import registry
from ..optim.schedule_free import ScheduleFree
from ..optimizer import Optimizer
from .problem import Params, Problem

Record = Literal["step", "epoch"]


@dataclass
class History:
    """What :func:`train` saw.

    Attributes
    ----------
    params
        The parameters: the arrays that the optimizer moves, at the end the last finite point.
    losses
        The loss on all data: at the start, and after each epoch.
    seconds
        Seconds spent in gradients and optimizer up to each of ``losses``, first 0. Neither compiling nor what is
        recorded is in them.
    path
        Copies of the parameters: the start, and after each step (``record="step"``) or epoch (``"epoch"``).
    steps
        Steps made.
    gradient_s, optimizer_s
        Seconds of each step in the gradient and in the optimizer.
    diverged
        Whether it ended because the loss or a parameter was no longer finite. Everything here ends before that epoch.
    message
        Why it ended.
    """

    params: Params
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    path: list[Params] = field(default_factory=list)
    steps: int = 0
    gradient_s: list[float] = field(default_factory=list)
    optimizer_s: list[float] = field(default_factory=list)
    diverged: bool = False
    message: str = ""

    @property
    def loss(self) -> float:
        """The last of ``losses``."""
        return self.losses[-1]


def train(
    problem: Problem,
    optimizer: Any,
    *,
    strategy: str = "batch",
    batch_size: int | None = None,
    epochs: int | None = None,
    seed: Any = 0,
    xtol: float | None = None,
    threads: int | None = 1,
    record: Record | None = None,
    callback: Callable[[int, History], Any] | None = None,
    **options: Any,
) -> History:
    """Descend on a problem (ascend, where it is one to maximize) from its start.

    Parameters
    ----------
    problem
        A :class:`Problem`.
    optimizer
        A name (``"adam"``, ``"momentum"``, the keys of :data:`schuss.optim.registry.VARIANTS`), a class, or a
        function of the parameters that returns an optimizer on them. It is called twice: a first optimizer makes one
        step on copies, so that compiling is not in the times.
    strategy, batch_size, seed
        As in :func:`schuss.batches`; the order of the rows is another one in each epoch. Without data, an epoch is one
        step, and the strategy ``"batch"``.
    epochs
        How many; None for what the problem says.
    xtol
        Stop after an epoch that has moved the parameters by no more than this (2-norm of all together).
    threads
        Of the optimizer, where that is a name or a class.
    record
        What goes into :attr:`History.path`.
    callback
        Called as ``callback(epoch, history)`` after each epoch, counted from 1. StopIteration from it ends the run.
    **options
        Of the optimizer. Where it is a name and there is no ``lr``, the problem's own for it.

    Returns
    -------
    History
        Of schedule-free optimizers the losses and the parameters at the end are those of the averages.

    Raises
    ------
    TypeError, ValueError
        For arguments that do not fit.

    Examples
    --------
    >>> import numpy as np, schuss
    >>> history = schuss.problems.train(schuss.problems.bids_roi(), "sgd", lr=0.08, epochs=4, record="step")
    >>> [round(point["slope"].item(), 2) for point in history.path]
    [1.0, 3.8, 4.36, 4.47, 4.49]
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem: expected a schuss.problems.Problem, got {problem!r}")
    if record not in (None, "step", "epoch"):
        raise ValueError(f"record: expected 'step', 'epoch' or None, got {record!r}")
    epochs = problem.epochs if epochs is None else epochs
    if isinstance(epochs, bool) or not isinstance(epochs, (int, np.integer)) or epochs < 0:
        raise ValueError(f"epochs: expected a whole number of at least 0, got {epochs!r}")
    rng = strategies.generator(seed)
    portions = _portions(problem, strategy, batch_size, rng)
    params, build = problem.start(), _builder(problem, optimizer, threads, options)
    history = History(params)
    with quiet():
        history.losses.append(problem.loss(params))
        history.seconds.append(0.0)
        if not math.isfinite(history.loss):
            raise ValueError(f"problem: the loss of {problem.name} at its start is {history.loss}")
        spare = problem.start()
        build(spare).step(problem.gradient(spare, *_first(problem, strategy, batch_size)))
        run = _Run(problem, build(params), portions, history, record)
        history.message = f"made all {epochs} epochs"
        for epoch in range(1, epochs + 1):
            if not run.epoch():
                history.diverged = True
                history.message = f"diverged in epoch {epoch}: the loss or a parameter is no longer finite"
                break
            end = ""
            if xtol is not None and run.moved <= xtol:
                end = f"epoch {epoch} moved the parameters by {run.moved:.3g}, which is not more than xtol"
            try:
                if callback is not None:
                    callback(epoch, history)
            except StopIteration:
                end = f"stopped by the callback after epoch {epoch}"
            if end:
                history.message = end
                break
        run.finish()
    return history


class _Run:
    """A run between two epochs."""

    def __init__(
        self,
        problem: Problem,
        optimizer: Optimizer,
        portions: Callable[[], Any],
        history: History,
        record: Record | None,
    ) -> None:
        self._problem, self._optimizer, self._portions = problem, optimizer, portions
        self._averaged = optimizer.averaged if isinstance(optimizer, ScheduleFree) else contextlib.nullcontext
        self._history, self._record = history, record
        self._last = _copied(history.params)
        if record is not None:
            history.path.append(_copied(history.params))
        self.moved = math.inf

    def epoch(self) -> bool:
        """One more; whether all is finite. Where it is not, the history is as before."""
        history, params = self._history, self._history.params
        points, gradient_s, optimizer_s = [], [], []
        begin = time.perf_counter()
        for rows in self._portions():
            gradient = self._problem.gradient(params, *rows)
            middle = time.perf_counter()
            self._optimizer.step(gradient)
            end = time.perf_counter()
            gradient_s.append(middle - begin)
            optimizer_s.append(end - middle)
            if self._record == "step":
                points.append(_copied(params))
            begin = time.perf_counter()
        with self._averaged():
            loss, now = self._problem.loss(params), _copied(params)
        if not (math.isfinite(loss) and all(np.isfinite(array).all() for array in params.values())):
            for name, array in params.items():
                array[...] = self._last[name]
            return False
        self.moved = math.hypot(*(np.linalg.norm(now[name] - self._last[name]) for name in now))
        self._last = now
        if self._record is not None:
            history.path += points or [now]
        history.losses.append(loss)
        history.seconds.append(history.seconds[-1] + sum(gradient_s) + sum(optimizer_s))
        history.gradient_s += gradient_s
        history.optimizer_s += optimizer_s
        history.steps += len(optimizer_s)
        return True

    def finish(self) -> None:
        """Let the parameters be what the losses are of."""
        if isinstance(self._optimizer, ScheduleFree) and not self._history.diverged:
            self._optimizer.eval()


def _builder(problem: Problem, optimizer: Any, threads: int | None, options: dict[str, Any]) -> registry.Factory:
    make = registry.factory(optimizer)
    if isinstance(optimizer, str):
        rate = problem.lrs.get(registry.key(optimizer))
        options = options if rate is None else {"lr": rate, **options}
    if isinstance(optimizer, (str, type)):
        options = {"threads": threads, **options}

    def build(params: Params) -> Optimizer:
        made = registry.built(make, params, **options)
        for group in made.param_groups:
            if problem.maximize and not group["maximize"]:
                group["maximize"] = True
        return made

    return build


def _portions(problem: Problem, strategy: str, batch_size: int | None, rng: np.random.Generator) -> Callable[[], Any]:
    """What makes the data of each epoch's steps."""
    if problem.X is not None:
        X, y = problem.X, problem.y
        batches(X, y, strategy, batch_size, shuffle=False)  # tells at once what does not fit
        return lambda: batches(X, y, strategy, batch_size, seed=rng)
    strategies.check(strategy)
    if strategy != "batch":
        raise ValueError(f"strategy: {problem.name} has no data, so there is only 'batch'; got {strategy!r}")
    return lambda: [()]


def _first(problem: Problem, strategy: str, batch_size: int | None) -> Any:
    if problem.X is None:
        return ()
    return next(batches(problem.X, problem.y, strategy, batch_size, shuffle=False))


def _copied(params: Params) -> Params:
    return {name: array.copy() for name, array in params.items()}
