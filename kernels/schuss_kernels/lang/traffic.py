"""Which of parameter, gradient and states a rule reads and writes: found by running it with changed inputs.

A kernel loads nothing that has no influence, and does not store what it has loaded unchanged. An initial weight that
only the measure reads, for one, costs the update pass nothing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .interpret import as_python
from .rule import Rule

PARAMETER, GRADIENT = "parameter", "gradient"

_TRIES = 64


@dataclass(frozen=True)
class Traffic:
    """Names of what is used: :data:`PARAMETER`, :data:`GRADIENT` and the states.

    ``measured``: what the measure reads (nothing, where there is none); ``read`` and ``written``: the update.
    """

    measured: frozenset[str]
    read: frozenset[str]
    written: frozenset[str]


@functools.cache
def traffic(rule: Rule) -> Traffic:
    """Return what a rule that is no matrix rule reads and writes.

    Changing what is not read changes no result; what is not written comes out as it went in. A rule that cannot be
    tried, because it raises, is taken to use everything.
    """
    names = (PARAMETER, GRADIENT, *rule.State._fields)
    try:
        with np.errstate(all="ignore"):
            return _tried(rule, names)
    except Exception:  # it is a stranger's, and this is for figures only
        everything = frozenset(names)
        return Traffic(everything if rule.measure else frozenset(), everything, everything - {GRADIENT})


def _tried(rule: Rule, names: tuple[str, ...]) -> Traffic:
    rng = np.random.default_rng(0)
    update = as_python(rule.update, np.float64)
    measure = None if rule.measure is None else as_python(rule.measure, np.float64)
    measured, read, written = set(), set(), {PARAMETER}

    def draw(name: str = "") -> np.float64:
        value = np.float64(rng.normal() * 10.0 ** rng.integers(-2, 2))
        return abs(value) if name in rule.not_negative else value

    for _ in range(_TRIES):
        h = rule.Scalars(*(rng.choice([0.0, 1.0, draw(), abs(draw())]) for _ in rule.Scalars._fields))
        values = {name: draw(name) for name in names}
        before, sums = _moved(rule, update, values, h), _measured(rule, measure, values, h)
        written |= {name for name in rule.State._fields if _differ(before[name], values[name])}
        for name in names:
            others = {**values, name: draw(name)}
            after = _moved(rule, update, others, h)
            if any(_differ(after[made], before[made]) for made in after if made != name or name == PARAMETER):
                read.add(name)  # a state that comes out as it went in is not used
            if any(map(_differ, _measured(rule, measure, others, h), sums)):
                measured.add(name)
    # A processor reads what it writes a part of; and most states that are written are read.
    return Traffic(frozenset(measured), frozenset(read | written), frozenset(written))


def _moved(rule: Rule, update: Any, values: dict[str, Any], h: Any) -> dict[str, Any]:
    state = rule.State(*(values[name] for name in rule.State._fields))
    moved, made = update(values[PARAMETER], values[GRADIENT], state, h)
    return {PARAMETER: moved, GRADIENT: values[GRADIENT], **made._asdict()}


def _measured(rule: Rule, measure: Any, values: dict[str, Any], h: Any) -> tuple[Any, ...]:
    if measure is None:
        return ()
    state = rule.State(*(values[name] for name in rule.State._fields))
    return tuple(measure(values[PARAMETER], values[GRADIENT], state, h))


def _differ(one: Any, other: Any) -> bool:
    return not (one == other or (one != one and other != other))
