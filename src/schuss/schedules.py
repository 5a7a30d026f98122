"""Learning rates as functions of the step.

An optimizer takes ``lr`` as a number or as a function of the step. Before each step it calls the function with the
number of steps already taken, 0 for the first, and uses the float that comes back. Any function will do; these are the
usual ones. They know nothing but their arguments: a run that is resumed needs the step alone.

What holds for all of them:

- lengths and positions are counted in optimizer steps, never in epochs;
- a schedule that ends holds its last value, exactly, from then on;
- arguments are checked when the schedule is made, and the step when it is called: TypeError for the wrong kind of thing,
  ValueError for a value out of range, naming the argument, what it must be and what came. Learning rates must be finite
  and at least 0, numbers of steps whole; numpy's scalars are taken, bool is not. A rate that comes out as NaN, infinite
  or negative (a function of yours inside, a growth without end) is a ValueError too;
- they are immutable, equal when their arguments are, can be pickled (a lambda inside cannot), and their repr makes them
  again where it is pasted after ``from schuss.schedules import *``.
"""

from __future__ import annotations

import math
import operator
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


def _kind(convert: Callable[[Any], Any], fits: Callable[[Any], bool], expected: str) -> Callable[[str, Any], Any]:
    """The check of one kind of argument: the value as plain Python keeps it, or an error that says what it must be."""

    def check(what: str, value: Any) -> Any:
        wrong = f"{what} must be {expected}, got {value!r}"
        try:
            kept = convert(value)
        except TypeError:
            raise TypeError(wrong) from None
        except (ValueError, OverflowError):
            raise ValueError(wrong) from None
        if not fits(kept):
            raise ValueError(wrong)
        return kept

    return check


def _real(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError
    return float(value)


def _index(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)


def _index_or_several(value: Any) -> int | tuple[int, ...]:
    return tuple(map(_index, value)) if isinstance(value, Iterable) and getattr(value, "ndim", 1) else _index(value)


def _rises_from_one(value: int | tuple[int, ...]) -> bool:
    several = (value,) if isinstance(value, int) else value
    return bool(several) and several[0] >= 1 and all(a < b for a, b in pairwise(several))


def _function(value: Any) -> Callable[[int], float]:
    return value if callable(value) and not isinstance(value, type) else constant(_real(value))


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _half_wave(done: float) -> float:
    return (1.0 - math.cos(math.pi * done)) / 2.0


def _between(start: float, end: float, done: float) -> float:
    # Two products, not start + (end - start) * done: exact at both ends, never below zero.
    return start * (1.0 - done) + end * done


_SHAPES: dict[str, Callable[[float], float]] = {"linear": float, "cosine": _half_wave, "sqrt": math.sqrt}

_steps_taken = _kind(_index, lambda n: n >= 0, "a whole number of at least 0")
_function_or_rate = _kind(_function, callable, "a function of the step or a finite rate of at least 0")
_part_steps = _kind(_index, lambda n: n >= 1, "a whole number of at least 1")

Rate = Annotated[float, _kind(_real, lambda x: 0.0 <= x < math.inf, "a finite number of at least 0")]
Positive = Annotated[float, _kind(_real, lambda x: 0.0 < x < math.inf, "a finite number above 0")]
AtLeastOne = Annotated[float, _kind(_real, lambda x: 1.0 <= x < math.inf, "a finite number of at least 1")]
Fraction = Annotated[float, _kind(_real, lambda x: 0.0 <= x < 1.0, "a number of at least 0 and below 1")]
Steps = Annotated[int, _part_steps]
StepsOrZero = Annotated[int, _steps_taken]
StepsOrNone = Annotated[
    int | None,
    _kind(lambda n: n if n is None else _index(n), lambda n: n is None or n >= 1, "None or a whole number of at least 1"),
]
Milestones = Annotated[
    int | Sequence[int],
    _kind(_index_or_several, _rises_from_one, "a whole number of at least 1 or a rising sequence of such"),
]
ScheduleOrRate = Annotated[Callable[[int], float] | float, _function_or_rate]
Shape = Annotated[
    Literal["linear", "cosine", "sqrt"], _kind(_name, _SHAPES.__contains__, f"one of {str(list(_SHAPES))[1:-1]}")
]


class Schedule:
    """What all schedules of this module are: call one with a step, get the learning rate."""

    def __post_init__(self) -> None:
        name = type(self).__name__
        for argument, hint in get_type_hints(type(self), include_extras=True).items():
            checked = hint.__metadata__[0](f"{name}: {argument}", getattr(self, argument))
            object.__setattr__(self, argument, checked)

    def __call__(self, step: int) -> float:
        """The learning rate of the step that follows ``step`` steps already taken."""
        step = _steps_taken(f"{type(self).__name__}: step", step)
        try:
            rate = float(self._at(step))
        except OverflowError:
            rate = math.inf
        if not 0.0 <= rate < math.inf:
            raise ValueError(f"{self!r} gives {rate} at step {step}; a learning rate must be finite and at least 0")
        return rate

    def _at(self, step: int) -> float:
        raise NotImplementedError


@dataclass(frozen=True)
class constant(Schedule):
    """The same rate always: ``lr(step) = lr``. It has no end. Source: a plain number as lr, in every framework.

    Raises TypeError or ValueError unless ``lr`` is finite and at least 0.

    >>> from schuss.schedules import constant
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
    factors. Raises TypeError or ValueError unless both rates are finite and at least 0, ``steps`` whole and at least 1.

    >>> from schuss.schedules import linear
    >>> [linear(1.0, 0.5, steps=4)(step) for step in (0, 1, 4, 100)]
    [1.0, 0.875, 0.5, 0.5]
    """

    start: Rate
    end: Rate
    steps: Steps

    def _at(self, step: int) -> float:
        return _between(self.start, self.end, min(1.0, step / self.steps))


@dataclass(frozen=True)
class step(Schedule):
    """A staircase: the rate is multiplied by ``factor`` every so many steps, or at the steps given::

        lr(step) = lr * factor ** (step // every)                             every: a number of steps
        lr(step) = lr * factor ** (number of members of every <= step)        every: steps, rising

    ``lr`` at step 0 (``every`` counts from 1). A number has no end; a sequence ends at its last member, and the rate
    there is held. Source: torch ``StepLR``, ``MultiStepLR``. Raises TypeError or ValueError unless ``lr`` is finite and
    at least 0, ``every`` whole and at least 1 or a rising sequence of such, ``factor`` finite and above 0.

    >>> from schuss.schedules import step
    >>> [step(1.0, 30, factor=0.5)(taken) for taken in (0, 29, 30, 60)]
    [1.0, 1.0, 0.5, 0.25]
    >>> [step(1.0, (10, 15), factor=0.5)(taken) for taken in (9, 10, 15, 1000)]
    [1.0, 0.5, 0.25, 0.25]
    """

    lr: Rate
    every: Milestones
    factor: Positive = 0.1

    def _at(self, step: int) -> float:
        drops = step // self.every if isinstance(self.every, int) else bisect_right(self.every, step)
        return self.lr * self.factor**drops


@dataclass(frozen=True)
class exponential(Schedule):
    """Multiplied by ``factor`` over ``every`` steps, evenly: ``lr(step) = lr * factor ** (step / every)``.

    ``lr`` at step 0; it has no end (:class:`join` gives it one). A ``factor`` above 1 grows, as in a search for a good
    rate, until float64 ends: a ValueError then. Source: torch ``ExponentialLR`` (``every`` = 1), Optax
    ``exponential_decay``; :class:`step` is its staircase. Raises TypeError or ValueError unless ``lr`` is finite and at
    least 0, ``factor`` finite and above 0, ``every`` whole and at least 1.

    >>> from schuss.schedules import exponential
    >>> [exponential(1.0, 0.25, every=10)(step) for step in (0, 5, 10, 20)]
    [1.0, 0.5, 0.25, 0.0625]
    """

    lr: Rate
    factor: Positive
    every: Steps = 1

    def _at(self, step: int) -> float:
        return self.lr * self.factor ** (step / self.every)


@dataclass(frozen=True)
class polynomial(Schedule):
    """A power of the part that is left: ``lr(step) = end + (start - end) * (1 - step / steps) ** power``.

    ``start`` at step 0, ``end`` at step ``steps`` and after. A ``power`` of 1 is :class:`linear`; more of it falls
    sooner and lands softly. Source: torch ``PolynomialLR`` (``end`` = 0), Optax ``polynomial_schedule``. Raises
    TypeError or ValueError unless both rates are finite and at least 0, ``steps`` whole and at least 1, ``power`` finite
    and above 0.

    >>> from schuss.schedules import polynomial
    >>> [polynomial(1.0, 0.0, steps=4, power=2.0)(step) for step in (0, 1, 2, 4, 100)]
    [1.0, 0.5625, 0.25, 0.0, 0.0]
    """

    start: Rate
    end: Rate
    steps: Steps
    power: Positive = 1.0

    def _at(self, step: int) -> float:
        left = max(0.0, 1.0 - step / self.steps)
        return _between(self.end, self.start, left**self.power)


@dataclass(frozen=True)
class cosine(Schedule):
    """Half a cosine wave from ``lr`` to ``end``, once or with warm restarts::

        lr(step) = end + (lr - end) * (1 + cos(pi * t / T)) / 2

    Without ``cycle``, t = step and T = ``steps``: ``lr`` at step 0, ``end`` at step ``steps`` and after. With it, t
    counts from the last restart and T is ``steps`` for the first run, then ``cycle`` times the T before: ``lr`` at step 0
    and at each restart, which comes where ``end`` would have been reached; it has no end. Source: Loshchilov & Hutter
    2017, "SGDR", section 3, equation 5; torch ``CosineAnnealingLR`` (which climbs again past its end),
    ``CosineAnnealingWarmRestarts``. Raises TypeError or ValueError unless both rates are finite and at least 0, ``steps``
    whole and at least 1, ``cycle`` the same or None.

    >>> from schuss.schedules import cosine
    >>> [round(cosine(1.0, steps=100)(step), 3) for step in (0, 25, 50, 100, 1000)]
    [1.0, 0.854, 0.5, 0.0, 0.0]
    >>> [round(cosine(1.0, steps=100, cycle=2)(step), 3) for step in (50, 100, 200, 300)]
    [0.5, 1.0, 0.5, 1.0]
    """

    lr: Rate
    steps: Steps
    end: Rate = 0.0
    cycle: StepsOrNone = None

    def _at(self, step: int) -> float:
        length = self.steps
        if self.cycle == 1:
            step %= length
        elif self.cycle is not None:
            while step >= length:
                step -= length
                length *= self.cycle
        return _between(self.lr, self.end, _half_wave(min(1.0, step / length)))


@dataclass(frozen=True)
class warmup(Schedule):
    """A straight line from ``start`` to a schedule's first rate, then the schedule, counted from its own step 0::

        lr(step) = start + (schedule(0) - start) * step / steps         step < steps
        lr(step) = schedule(step - steps)                               from then on

    ``schedule`` may be a learning rate. ``start`` at step 0 (0.0 moves nothing), ``schedule(0)`` at step ``steps``; the
    end is the schedule's. ``steps`` = 0 is no ramp. Source: Goyal et al. 2017, "Accurate, Large Minibatch SGD", section
    2.2. Raises TypeError or ValueError unless ``schedule`` is callable or a rate, rates are finite and at least 0,
    ``steps`` whole and at least 0.

    >>> from schuss.schedules import linear, warmup
    >>> [warmup(linear(1.0, 0.0, steps=10), steps=4)(step) for step in (0, 1, 4, 9, 14)]
    [0.0, 0.25, 1.0, 0.5, 0.0]
    """

    schedule: ScheduleOrRate
    steps: StepsOrZero
    start: Rate = 0.0

    def _at(self, step: int) -> float:
        assert callable(self.schedule)  # a rate became a constant when it was checked
        if step >= self.steps:
            return self.schedule(step - self.steps)
        return _between(self.start, self.schedule(0), step / self.steps)


@dataclass(frozen=True)
class one_cycle(Schedule):
    """Up to ``peak`` over the first part of the run, far down over the rest, each half a cosine wave::

        low = peak / start_factor,   end = low / end_factor,   top = warmup * steps - 1
        lr(step) = low + (peak - low) * (1 - cos(pi * step / top)) / 2                           step < top
        lr(step) = end + (peak - end) * (1 + cos(pi * (step - top) / (steps - 1 - top))) / 2     from then on

    ``low`` at step 0, ``peak`` at step ``top``, ``end`` at step ``steps - 1``, the last of the run, and after. With no
    room for a ramp (``top`` <= 0) step 0 is at the peak. Source: Smith & Topin 2018, "Super-Convergence" (1cycle, of
    straight lines); this shape is torch's ``OneCycleLR``, without its momentum. Raises TypeError or ValueError unless
    ``peak`` is finite and at least 0, ``steps`` whole and at least 1, ``warmup`` in [0, 1), the factors at least 1.

    >>> from schuss.schedules import one_cycle
    >>> [round(one_cycle(1.0, steps=100)(step), 4) for step in (0, 10, 29, 64, 99, 1000)]
    [0.04, 0.2952, 1.0, 0.5, 0.0, 0.0]
    """

    peak: Rate
    steps: Steps
    warmup: Fraction = 0.3
    start_factor: AtLeastOne = 25.0
    end_factor: AtLeastOne = 1e4

    def _at(self, step: int) -> float:
        low = self.peak / self.start_factor
        top, last = max(0.0, self.warmup * self.steps - 1.0), self.steps - 1
        if step < top:
            return _between(low, self.peak, _half_wave(step / top))
        done = 1.0 if step >= last else (step - top) / (last - top)
        return _between(self.peak, low / self.end_factor, _half_wave(done))


@dataclass(frozen=True)
class inverse_sqrt(Schedule):
    """A straight line up to ``lr``, then the inverse square root of the step::

        lr(step) = lr * step / warmup                   step < warmup
        lr(step) = lr * sqrt(warmup / step)             from then on

    0 at step 0 (which moves nothing), ``lr`` at step ``warmup``, half of it at four times that; it has no end. Source:
    Vaswani et al. 2017, "Attention Is All You Need", section 5.3, equation 3: there steps count from 1 and the peak is
    1 / sqrt(d_model * warmup). Raises TypeError or ValueError unless ``lr`` is finite and at least 0, ``warmup`` whole
    and at least 1.

    >>> from schuss.schedules import inverse_sqrt
    >>> [inverse_sqrt(1.0, warmup=100)(step) for step in (0, 50, 100, 400, 10_000)]
    [0.0, 0.5, 1.0, 0.5, 0.1]
    """

    lr: Rate
    warmup: Steps

    def _at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step / self.warmup)
        return self.lr * math.sqrt(self.warmup / step)


@dataclass(frozen=True)
class warmup_stable_decay(Schedule):
    """A straight line up to ``lr``, a plateau, and a decay to ``end``::

        lr(step) = lr * step / warmup                            step < warmup
        lr(step) = lr                                            the next ``stable`` steps
        lr(step) = lr + (end - lr) * f(t / decay)                t = step - warmup - stable

    f(x) is x for the ``shape`` "linear", (1 - cos(pi * x)) / 2 for "cosine", sqrt(x) for "sqrt" (known as 1-sqrt). 0 at
    step 0 (``lr`` where ``warmup`` is 0), ``end`` at step ``warmup + stable + decay`` and after. Source: Hu et al. 2024,
    "MiniCPM", section 4; Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", section 3 (linear, sqrt). Raises TypeError or ValueError unless both rates are finite and at least 0,
    ``warmup`` and ``stable`` whole and at least 0, ``decay`` whole and at least 1, ``shape`` one of the three.

    >>> from schuss.schedules import warmup_stable_decay
    >>> lr = warmup_stable_decay(1.0, warmup=10, stable=80, decay=16, shape="sqrt")
    >>> [lr(step) for step in (0, 5, 10, 90, 94, 106, 1000)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """

    lr: Rate
    warmup: StepsOrZero
    stable: StepsOrZero
    decay: Steps
    end: Rate = 0.0
    shape: Shape = "linear"

    def _at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step / self.warmup)
        decayed = max(0, step - self.warmup - self.stable)
        return _between(self.lr, self.end, _SHAPES[self.shape](min(1.0, decayed / self.decay)))


@dataclass(frozen=True, init=False, repr=False)
class join(Schedule):
    """One schedule after the other, each counted from its own step 0: ``join((a, 10), (b, 20), c)`` is::

        lr(step) = a(step)               step < 10
        lr(step) = b(step - 10)          10 <= step < 30
        lr(step) = c(step - 30)          from then on

    All parts but the last are pairs of a schedule and how many steps it is used for; each schedule may be any function
    of the step or a learning rate. Step 0 is the first part's, the end the last one's. Source: Optax ``join_schedules``,
    torch ``SequentialLR``. Raises TypeError or ValueError unless there is a part, all but the last are such pairs,
    schedules are callable or finite rates of at least 0, and numbers of steps whole and at least 1.

    >>> from schuss.schedules import cosine, join, linear
    >>> lr = join((linear(0.0, 1.0, steps=4), 4), (1.0, 10), cosine(1.0, steps=20))
    >>> [round(lr(step), 3) for step in (0, 3, 4, 13, 14, 24, 34)]
    [0.0, 0.75, 1.0, 1.0, 1.0, 0.5, 0.0]
    """

    parts: tuple[tuple[Callable[[int], float], int], ...]
    last: Callable[[int], float]

    def __init__(self, *parts: tuple[ScheduleOrRate, int] | ScheduleOrRate) -> None:
        if not parts:
            raise TypeError("join: expected at least one schedule, got none")
        checked = []
        for number, pair in enumerate(parts[:-1], 1):
            what = f"join: part {number}"
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"{what} must be a pair (schedule, steps), got {pair!r}")
            checked.append((_function(f"{what}: schedule", pair[0]), _whole(1)(f"{what}: steps", pair[1])))
        if isinstance(parts[-1], tuple | list):
            raise TypeError(f"join: the last part must be a schedule without a number of steps, got {parts[-1]!r}")
        object.__setattr__(self, "parts", tuple(checked))
        object.__setattr__(self, "last", _function("join: the last part", parts[-1]))

    def __repr__(self) -> str:
        return f"join({', '.join(map(repr, (*self.parts, self.last)))})"

    def _at(self, step: int) -> float:
        for schedule, steps in self.parts:
            if step < steps:
                return schedule(step)
            step -= steps
        return self.last(step)
