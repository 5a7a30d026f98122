"""FTRL-Proximal: follow the regularized leader, a learning rate a coordinate, weights of exactly zero.

McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", Algorithm 1, per coordinate::

    p     = p * (1 - lr * weight_decay)
    n'    = n + g^2
    sigma = (n'^q - n^q) / lr                            q = -learning_rate_power = 1/2
    z     = z + g + 2 * l2_shrinkage * p - sigma * p
    p     = 0                                            where |z| <= l1
    p     = (sign(z) * l1 - z) / ((beta + n'^q) / lr + l2)    elsewhere

The parameter follows from the sums ``z`` and ``n``: what it was at first counts in ``sigma * p`` alone, and an element
without a gradient becomes 0. A step with lr = 0, as a warm-up has, changes neither the parameter nor its sums; an
infinite element stays. With exponents other than a half the roots are powers (two of them: the slower form).

Conventions. ``paper``: as above, with beta = 1 and n = 0 at first; shrinkage, decay and exponent are Keras's.
``keras``: twice ``l2`` in the denominator, beta = 0, n = 0.1 at first.
"""

import functools
import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import NOT_NEGATIVE, Interval, Rule
from ..lang.scalar_math import (
    INFINITE,
    POWER,
    decayed,
    decayed_by,
    finite_part,
    finite_part_of,
    power,
    power_of,
    power_table,
    select,
)

State = namedtuple("State", ["accumulator", "linear"])
Scalars = namedtuple("Scalars", ["inverse_lr", "l1", "minus_l1", "below", "shrinkage", "keep", "moves"])
PowerScalars = namedtuple("PowerScalars", [*Scalars._fields, *POWER])  # type: ignore[misc]


LEAST = 1e-30
"""The least learning rate that moves anything: it is divided by."""


def _numbers(lr, l1, beta, l2, l2_shrinkage, weight_decay):
    moves, lr = lr >= LEAST, max(lr, LEAST)
    return Scalars(1.0 / lr, l1, -l1, beta / lr + l2, 2.0 * l2_shrinkage, 1.0 - lr * weight_decay, float(moves))


def scalars(step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    return _numbers(lr, l1, beta, l2, l2_shrinkage, weight_decay)


def scalars_keras(step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    return _numbers(lr, l1, beta, 2.0 * l2, l2_shrinkage, weight_decay)


def scalars_power(step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    h = _numbers(lr, l1, beta, l2, l2_shrinkage, weight_decay)
    return PowerScalars(*h, *power_table(-learning_rate_power))


def scalars_power_keras(step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    h = _numbers(lr, l1, beta, 2.0 * l2, l2_shrinkage, weight_decay)
    return PowerScalars(*h, *power_table(-learning_rate_power))


def initial(*, initial_accumulator_value):
    return State(initial_accumulator_value, 0.0)


def leader(p, g, linear, before, after, h):
    """The parameter and the linear sum, from the roots of the accumulator before and after."""
    z = linear + (decayed(g, h.shrinkage, p) - (after - before) * h.inverse_lr * p)
    move = select(z < h.minus_l1, h.minus_l1, select(z > h.l1, h.l1, z)) - z
    return select(move == 0.0, 0.0, move / (after * h.inverse_lr + h.below)), z


def update(p, g, s, h):
    n = s.accumulator + g * g
    new, z = leader(finite_part(p) * h.keep, g, s.linear, math.sqrt(s.accumulator), math.sqrt(n), h)
    return moved(h, new, p), kept(h, n, z, s)


def update_power(p, g, s, h):
    n = s.accumulator + g * g
    new, z = leader(finite_part(p) * h.keep, g, s.linear, power(s.accumulator, h), power(n, h), h)
    return moved(h, new, p), kept(h, n, z, s)


def moved(h, new, p):
    """The new parameter; the old one in a step that moves nothing, or where it is infinite."""
    return select(h.moves > 0.0, select(abs(p) == INFINITE, p, new), p)


def kept(h, n, z, s):
    """The new state; the old one in a step that moves nothing."""
    return State(select(h.moves > 0.0, n, s.accumulator), select(h.moves > 0.0, z, s.linear))


def _reference(p, g, s, root, lr, l1, beta, l2, l2_shrinkage, weight_decay):
    """All forms; ``root(n)`` is n^q."""
    if lr < LEAST:
        return p, s
    below, old = beta / lr + l2, p
    p = finite_part_of(p) * (1.0 - lr * weight_decay)
    n = s.accumulator + g * g
    z = s.linear + (decayed_by(g, 2.0 * l2_shrinkage, p) - (root(n) - root(s.accumulator)) * (1.0 / lr) * p)
    move = np.where(z < -l1, -l1, np.where(z > l1, l1, z)).astype(z.dtype) - z
    new = np.where(move == 0.0, 0.0, move / (root(n) * (1.0 / lr) + below)).astype(p.dtype)
    return np.where(np.isinf(old), old, new), State(n, z)


def reference(p, g, s, step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    return _reference(p, g, s, np.sqrt, lr, l1, beta, l2, l2_shrinkage, weight_decay)


def reference_keras(p, g, s, step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    return _reference(p, g, s, np.sqrt, lr, l1, beta, 2.0 * l2, l2_shrinkage, weight_decay)


def reference_power(p, g, s, step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    root = functools.partial(power_of, y=-learning_rate_power)
    return _reference(p, g, s, root, lr, l1, beta, l2, l2_shrinkage, weight_decay)


def reference_power_keras(p, g, s, step, *, lr, l1, l2, l2_shrinkage, beta, weight_decay, learning_rate_power):
    root = functools.partial(power_of, y=-learning_rate_power)
    return _reference(p, g, s, root, lr, l1, beta, 2.0 * l2, l2_shrinkage, weight_decay)


_PAPER = "McMahan et al. 2013, Algorithm 1"

FTRL = Rule(
    "ftrl",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={
        "learning_rate_power": Interval(-1.0, 0.0),
        **dict.fromkeys(
            ("l1", "l2", "l2_shrinkage", "beta", "weight_decay", "initial_accumulator_value"), NOT_NEGATIVE
        ),
    },
    paper=_PAPER,
    not_negative=("accumulator",),
)
FTRL_POWER = FTRL.variant(
    "ftrl_power", Scalars=PowerScalars, scalars=scalars_power, update=update_power, reference=reference_power
)
FTRL_KERAS = FTRL.variant(
    "ftrl_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_PAPER}, as in Keras"
)
FTRL_POWER_KERAS = FTRL_POWER.variant(
    "ftrl_power_keras", scalars=scalars_power_keras, reference=reference_power_keras, paper=f"{_PAPER}, as in Keras"
)

CONVENTIONS = Conventions(
    paper=Convention({"lr": 0.1, "beta": 1.0, "initial_accumulator_value": 0.0}, FTRL, {"power": FTRL_POWER}),
    keras=Convention(
        {"lr": 1e-3, "beta": 0.0, "initial_accumulator_value": 0.1}, FTRL_KERAS, {"power": FTRL_POWER_KERAS}
    ),
)


def rule_for(*, learning_rate_power, convention, **_):
    """The rule that runs for a group's options."""
    found = CONVENTIONS[convention]
    return found.rule if learning_rate_power == -0.5 else found.forms["power"]
