"""Learning rates as functions of the step.

An optimizer takes ``lr`` as a number or as a function of the step. Before each step it calls the function with the
number of steps already taken, 0 for the first, and uses the float that comes back. Any function will do; these are the
usual ones. They know nothing but their arguments: a run that is resumed needs the step alone. The examples follow
``from schuss.schedules import *``. What holds for all:

- Lengths and positions are counted in optimizer steps, never epochs. Where a schedule ends, its last value is held.
- A *rate* is a finite number of at least 0, a *count* a whole number of at least 1, a *factor* a finite number above 0;
  NumPy's scalars and 0-d arrays are taken, bool is not. Arguments are checked when the schedule is made, the step (a
  count or 0) when it is called: TypeError for the wrong kind of thing, ValueError for a value out of range, naming the
  argument, what it must be and what came. A result that is no rate (beyond float64, say) is a ValueError too.
- They are immutable, equal when their arguments are, and can be pickled (unless there is a lambda inside); their repr,
  pasted after that import, makes them again.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Annotated, Any, Literal, get_type_hints

__all__ = [
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse_sqrt",
    "join",
    "linear",
    "one_cycle",
    "polynomial",
    "step",
    "warmup",
    "warmup_stable_decay",
]


def _kind(expected: str, convert: Callable[[Any], Any], fits: Callable[[Any], bool]) -> Callable[[str, Any], Any]:
    """The check of one kind of argument: its value as plain Python has it, or an error that says what it must be."""

    def check(what: str, value: Any) -> Any:
        error: type[Exception] = TypeError if isinstance(value, bool) else ValueError
        try:
            if not isinstance(value, bool) and fits(kept := convert(value)):
                return kept
        except (TypeError, ValueError, OverflowError) as reason:
            error = TypeError if isinstance(reason, TypeError) else ValueError
        raise error(f"{what} must be {expected}, got {value!r}")

    return check


def _real(value: Any) -> float:
    value = value.item() if getattr(value, "ndim", None) == 0 else value  # of an array without axes
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return float(value)


def _count_or_several(value: Any) -> int | tuple[int, ...]:
    if not isinstance(value, Iterable) or getattr(value, "ndim", None) == 0:
        return _count("", value)
    several = tuple(_count("", member) for member in value)
    if any(a >= b for a, b in pairwise(several)):
        raise ValueError
    return several


def _function(value: Any) -> Callable[[int], float]:
    return value if callable(value) and not isinstance(value, type) else constant(_real(value))


def _half_wave(done: float) -> float:
    return (1.0 - math.cos(math.pi * done)) / 2.0


_SHAPES: dict[Any, Callable[[float], float]] = {"linear": float, "cosine": _half_wave, "sqrt": math.sqrt}

_count = _kind("a whole number of at least 1", operator.index, lambda n: n >= 1)
_count_or_zero = _kind("a whole number of at least 0", operator.index, lambda n: n >= 0)
_counts = _kind("a whole number of at least 1 or a rising sequence of such", _count_or_several, bool)
_fraction = _kind("a number of at least 0 and below 1", _real, lambda x: 0.0 <= x < 1.0)
_schedule = _kind("a function of the step or a finite rate of at least 0", _function, callable)
_shape = _kind("'linear', 'cosine' or 'sqrt'", lambda name: name, lambda name: name in _SHAPES)
Rate = Annotated[float, _kind("a finite number of at least 0", _real, lambda x: 0.0 <= x < math.inf)]
Factor = Annotated[float, _kind("a finite number above 0", _real, lambda x: 0.0 < x < math.inf)]
Count = Annotated[int, _count]
CountOrZero = Annotated[int, _count_or_zero]


class Schedule(ABC):
    """What all schedules of this module are: call one with a step, get the learning rate."""

    def __post_init__(self) -> None:
        for argument, hint in get_type_hints(type(self), include_extras=True).items():
            value = hint.__metadata__[0](f"{type(self).__name__}: {argument}", getattr(self, argument))
            object.__setattr__(self, argument, value)

    def __call__(self, step: int) -> float:
        """The learning rate of the step that follows ``step`` steps already taken."""
        step = _count_or_zero(f"{type(self).__name__}: step", step)
        try:
            rate = float(self._at(step))
        except OverflowError:
            rate = math.inf
        if not 0.0 <= rate < math.inf:
            raise ValueError(f"{self!r} gives {rate} at step {step}; a learning rate must be finite and at least 0")
        return rate

    @abstractmethod
    def _at(self, step: int) -> float: ...


def _between(start: float, end: float, done: float) -> float:
    # Two products, not start + (end - start) * done: exact at both ends, never below zero.
    return start * (1.0 - done) + end * done


@dataclass(frozen=True)
class constant(Schedule):
    """The same rate at every step, from 0 on and without end: ``lr(step) = lr``. A plain number as lr does the same.

    Raises TypeError or ValueError unless ``lr`` is a rate.

    >>> constant(0.1)(0), constant(0.1)(1_000_000)
    (0.1, 0.1)
    """

    lr: Rate

    def _at(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class linear(Schedule):
    """A straight line, down or up: ``lr(step) = start + (end - start) * step / steps``.

    ``start`` at step 0, ``end`` at step ``steps`` and after. Source: torch ``LinearLR``, which states both ends as
    factors. Raises TypeError or ValueError unless ``start`` and ``end`` are rates, ``steps`` a count.

    >>> [linear(1.0, 0.5, steps=4)(step) for step in (0, 1, 4, 100)]
    [1.0, 0.875, 0.5, 0.5]
    """

    start: Rate
    end: Rate
    steps: Count

    def _at(self, step: int) -> float:
        return _between(self.start, self.end, min(1.0, step / self.steps))


@dataclass(frozen=True)
class step(Schedule):
    """A staircase: ``lr(step) = lr * factor ** drops``.

    ``drops`` is ``step // every`` where ``every`` is a count; where it is a rising sequence of steps, it is how many of
    them are at most ``step``. ``lr`` at step 0. A count has no end; a sequence ends at its last member, and the rate
    there is held. Source: torch ``StepLR``, ``MultiStepLR``. Raises TypeError or ValueError unless ``lr`` is a rate,
    ``every`` a count or a rising sequence of counts, ``factor`` a factor.

    >>> [step(1.0, 30, factor=0.5)(taken) for taken in (0, 29, 30, 60)]
    [1.0, 1.0, 0.5, 0.25]
    >>> [step(1.0, (10, 15), factor=0.5)(taken) for taken in (9, 10, 15, 1000)]
    [1.0, 0.5, 0.25, 0.25]
    """

    lr: Rate
    every: Annotated[int | Sequence[int], _counts]
    factor: Factor = 0.1

    def _at(self, step: int) -> float:
        drops = step // self.every if isinstance(self.every, int) else bisect_right(self.every, step)
        return self.lr * self.factor**drops


@dataclass(frozen=True)
class exponential(Schedule):
    """Multiplied by ``factor`` over ``every`` steps, evenly: ``lr(step) = lr * factor ** (step / every)``.

    ``lr`` at step 0; no end (:class:`join` gives it one). Source: torch ``ExponentialLR``, Optax ``exponential_decay``.
    Raises TypeError or ValueError unless ``lr`` is a rate, ``factor`` a factor, ``every`` a count.

    >>> [exponential(1.0, 0.25, every=10)(step) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.25, 0.0625]
    """

    lr: Rate
    factor: Factor
    every: Count = 1

    def _at(self, step: int) -> float:
        return self.lr * self.factor ** (step / self.every)


@dataclass(frozen=True)
class polynomial(Schedule):
    """A power of the part that is left: ``lr(step) = end + (start - end) * (1 - step / steps) ** power``.

    ``start`` at step 0, ``end`` at step ``steps`` and after. Source: torch ``PolynomialLR`` (to 0), Optax
    ``polynomial_schedule``. Raises TypeError or ValueError unless ``start`` and ``end`` are rates, ``steps`` a count,
    ``power`` a factor.

    >>> [polynomial(1.0, 0.0, steps=4, power=2.0)(step) for step in (0, 1, 2, 4, 100)]
    [1.0, 0.5625, 0.25, 0.0, 0.0]
    """

    start: Rate
    end: Rate
    steps: Count
    power: Factor = 1.0

    def _at(self, step: int) -> float:
        return _between(self.end, self.start, max(0.0, 1.0 - step / self.steps) ** self.power)


@dataclass(frozen=True)
class cosine(Schedule):
    """Half a cosine wave, once or with warm restarts: ``lr(step) = end + (lr - end) * (1 + cos(pi * t / T)) / 2``.

    With ``cycle`` 0, t = step and T = ``steps``: ``lr`` at step 0, ``end`` at step ``steps`` and after. With more, t
    counts from the last restart and T is ``steps`` for the first run, then ``cycle`` times the T before: ``lr`` at step
    0 and at each restart, where ``end`` would have come; no end. Source: Loshchilov & Hutter 2017, "SGDR", section 3,
    equation 5; torch ``CosineAnnealingLR`` (climbs again at its end), ``CosineAnnealingWarmRestarts``. Raises TypeError
    or ValueError unless ``lr`` and ``end`` are rates, ``steps`` a count, ``cycle`` a count or 0.

    >>> [round(cosine(1.0, steps=100)(step), 3) for step in (0, 25, 50, 100, 1000)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    >>> [round(cosine(1.0, steps=100, cycle=2)(step), 3) for step in (50, 100, 200, 300)]
    [0.5, 1.0, 0.5, 1.0]
    """

    lr: Rate
    steps: Count
    end: Rate = 0.0
    cycle: CountOrZero = 0

    def _at(self, step: int) -> float:
        length = self.steps
        step = step % length if self.cycle == 1 else step
        while self.cycle and step >= length:
            step, length = step - length, length * self.cycle
        return _between(self.lr, self.end, _half_wave(min(1.0, step / length)))


@dataclass(frozen=True)
class warmup(Schedule):
    """A straight line from ``start`` to a schedule's first rate, then the schedule, counted from its own step 0::

        lr(step) = start + (schedule(0) - start) * step / steps         step < steps
        lr(step) = schedule(step - steps)                               from then on

    ``start`` at step 0 (0.0 moves nothing), ``schedule(0)`` at step ``steps`` (0: no ramp); the end is the schedule's.
    Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section 2.2. Raises TypeError or ValueError unless
    ``schedule`` is a function of the step or a rate, ``steps`` a count or 0, ``start`` a rate.

    >>> [warmup(linear(1.0, 0.0, steps=10), steps=4)(step) for step in (0, 1, 4, 9, 14)]
    [0.0, 0.25, 1.0, 0.5, 0.0]
    """

    schedule: Annotated[Callable[[int], float] | float, _schedule]
    steps: CountOrZero
    start: Rate = 0.0

    def _at(self, step: int) -> float:
        assert callable(self.schedule)  # the check made a constant of a rate
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return _between(self.start, self.schedule(0), step / self.steps)


@dataclass(frozen=True)
class one_cycle(Schedule):
    """Up to ``peak`` over the first part of the run, far down over the rest, each half a cosine wave::

        low = peak / start_factor,   end = low / end_factor,   top = warmup * steps - 1
        lr(step) = low + (peak - low) * (1 - cos(pi * step / top)) / 2                           step < top
        lr(step) = end + (peak - end) * (1 + cos(pi * (step - top) / (steps - 1 - top))) / 2     from then on

    ``low`` at step 0, ``peak`` at step ``top``, ``end`` at step ``steps - 1``, the last of the run, and after. Where
    ``top`` is not above 0, step 0 is at the peak. Source: Smith & Topin 2018, "Super-Convergence" (1cycle, of straight
    lines); this shape is torch's ``OneCycleLR``, without its momentum. Raises TypeError or ValueError unless ``peak``
    is a rate, ``steps`` a count, ``warmup`` at least 0 and below 1, the others factors.

    >>> [round(one_cycle(1.0, steps=100)(step), 4) for step in (0, 10, 29, 64, 99, 1000)]
    [0.04, 0.2952, 1.0, 0.5, 0.0, 0.0]
    """

    peak: Rate
    steps: Count
    warmup: Annotated[float, _fraction] = 0.3
    start_factor: Factor = 25.0
    end_factor: Factor = 1e4

    def _at(self, step: int) -> float:
        low = self.peak / self.start_factor
        top, last = max(0.0, self.warmup * self.steps - 1.0), self.steps - 1
        if step < top:
            return _between(low, self.peak, _half_wave(step / top))
        done = 1.0 if step >= last else (step - top) / (last - top)
        return _between(self.peak, low / self.end_factor, _half_wave(done))


@dataclass(frozen=True)
class inverse_sqrt(Schedule):
    """A straight line up to ``lr``, then down by the root: ``lr(step) = lr * min(step / warmup, sqrt(warmup / step))``.

    0 at step 0 (which moves nothing), ``lr`` at step ``warmup``, half of it at four times that; no end. Source: Vaswani
    et al. 2017, "Attention Is All You Need", section 5.3, equation 3 (steps from 1, and the peak 1 / sqrt(d_model *
    warmup)). Raises TypeError or ValueError unless ``lr`` is a rate, ``warmup`` a count.

    >>> [inverse_sqrt(1.0, warmup=100)(step) for step in (0, 50, 100, 400, 10_000)]
    [0.0, 0.5, 1.0, 0.5, 0.1]
    """

    lr: Rate
    warmup: Count

    def _at(self, step: int) -> float:
        return self.lr * (step / self.warmup if step < self.warmup else math.sqrt(self.warmup / step))


@dataclass(frozen=True)
class warmup_stable_decay(Schedule):
    """A straight line up to ``lr``, a plateau, and a decay to ``end``::

        lr(step) = lr * step / warmup                            step < warmup
        lr(step) = lr                                            the next ``stable`` steps
        lr(step) = lr + (end - lr) * f(t / decay)                t = step - warmup - stable

    f(x) is x for the ``shape`` "linear", (1 - cos(pi * x)) / 2 for "cosine", sqrt(x) for "sqrt" (known as 1-sqrt). 0 at
    step 0 (``lr`` where ``warmup`` is 0), ``end`` at step ``warmup + stable + decay`` and after. Source: Hu et al.
    2024, "MiniCPM", section 4; Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", section 3 (linear, sqrt). Raises TypeError or ValueError unless ``lr`` and ``end`` are rates, ``warmup``
    and ``stable`` counts or 0, ``decay`` a count, ``shape`` one of the three.

    >>> lr = warmup_stable_decay(1.0, warmup=10, stable=80, decay=16, shape="sqrt")
    >>> [lr(step) for step in (0, 5, 10, 90, 94, 106, 1000)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """

    lr: Rate
    warmup: CountOrZero
    stable: CountOrZero
    decay: Count
    end: Rate = 0.0
    shape: Annotated[Literal["linear", "cosine", "sqrt"], _shape] = "linear"

    def _at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step / self.warmup)
        decayed = max(0, step - self.warmup - self.stable)
        return _between(self.lr, self.end, _SHAPES[self.shape](min(1.0, decayed / self.decay)))


@dataclass(frozen=True, init=False, repr=False)
class join(Schedule):
    """One schedule after the other, each counted from its own step 0.

    ``join((a, 10), (b, 20), c)`` is ``a(step)`` for 10 steps, ``b(step - 10)`` for 20, and ``c(step - 30)`` from then
    on. Each may be any function of the step, or a rate. Step 0 is the first one's, the end the last one's. Source:
    Optax ``join_schedules``, torch ``SequentialLR``. Raises TypeError or ValueError unless all parts but the last are
    pairs of a schedule and a count, and the last is a schedule.

    >>> lr = join((linear(0.0, 1.0, steps=4), 4), (1.0, 10), cosine(1.0, steps=20))
    >>> [round(lr(step), 3) for step in (0, 3, 4, 13, 14, 24, 34)]
    [0.0, 0.75, 1.0, 1.0, 1.0, 0.5, 0.0]
    """

    parts: tuple[tuple[Callable[[int], float], int], ...]
    last: Callable[[int], float]

    def __init__(self, *parts: tuple[Callable[[int], float] | float, int] | Callable[[int], float] | float) -> None:
        *pairs, last = parts or (None,)
        checked = []
        for number, pair in enumerate(pairs, 1):
            what = f"join: part {number}"
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"{what} must be a pair (schedule, steps), got {pair!r}")
            checked.append((_schedule(f"{what}: schedule", pair[0]), _count(f"{what}: steps", pair[1])))
        object.__setattr__(self, "parts", tuple(checked))
        object.__setattr__(self, "last", _schedule("join: the last part", last))

    def __repr__(self) -> str:
        return f"join({', '.join(map(repr, (*self.parts, self.last)))})"

    def _at(self, step: int) -> float:
        for schedule, steps in self.parts:
            if step < steps:
                return schedule(step)
            step -= steps
        return self.last(step)
