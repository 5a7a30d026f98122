"""FTRL-Proximal: follow the regularized leader, a learning rate a coordinate, weights of exactly zero.

McMahan et al. 2013, "Ad Click Prediction: a View from the Trenches", Algorithm 1, per coordinate::

    p     = p * (1 - lr * weight_decay)
    n'    = n + g^2
    sigma = (n'^q - n^q) / lr                            q = -learning_rate_power = 1/2
    z     = z + g + 2 * l2_shrinkage * p - sigma * p
    p     = 0                                            where |z| <= l1
    p     = (sign(z) * l1 - z) / ((beta + n'^q) / lr + l2)    elsewhere

The parameter follows from the sums ``z`` and ``n``: what it was at first counts in ``sigma * p`` alone, and an element
without a gradient becomes 0. With exponents other than a half the roots are powers (two of them: the slower form).

Conventions. ``paper``: as above, with beta = 1 and n = 0 at first; shrinkage, decay and exponent are Keras's.
``keras``: twice ``l2`` in the denominator, beta = 0, n = 0.1 at first.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import NOT_NEGATIVE, Interval, Rule
from ..lang.scalar_math import POWER, pick, power, power_of, power_table

State = namedtuple("State", ["accumulator", "linear"])
Scalars = namedtuple("Scalars", ["inverse_lr", "l1", "minus_l1", "below", "shrinkage", "keep"])
PowerScalars = namedtuple("PowerScalars", [*Scalars._fields, *POWER])  # type: ignore[misc]


def _numbers(lr, l1, below, l2_shrinkage, weight_decay):
    return Scalars(1.0 / lr, l1, -l1, below, 2.0 * l2_shrinkage, 1.0 - lr * weight_decay)


def scalars(step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=1.0, weight_decay=0.0, learning_rate_power=-0.5):
    return _numbers(lr, l1, beta / lr + l2, l2_shrinkage, weight_decay)


def scalars_keras(step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=0.0, weight_decay=0.0, learning_rate_power=-0.5):
    return _numbers(lr, l1, beta / lr + 2.0 * l2, l2_shrinkage, weight_decay)


def scalars_power(step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=1.0, weight_decay=0.0, learning_rate_power=-0.5):
    h = _numbers(lr, l1, beta / lr + l2, l2_shrinkage, weight_decay)
    return PowerScalars(*h, *power_table(-learning_rate_power))


def scalars_power_keras(
    step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=0.0, weight_decay=0.0, learning_rate_power=-0.5
):
    h = _numbers(lr, l1, beta / lr + 2.0 * l2, l2_shrinkage, weight_decay)
    return PowerScalars(*h, *power_table(-learning_rate_power))


def initial(*, initial_accumulator_value=0.0):
    return State(initial_accumulator_value, 0.0)


def initial_keras(*, initial_accumulator_value=0.1):
    return State(initial_accumulator_value, 0.0)


def leader(p, g, linear, before, after, h):
    """The parameter and the linear sum, from the roots of the accumulator before and after."""
    z = linear + ((g + h.shrinkage * p) - (after - before) * h.inverse_lr * p)
    move = pick(z < h.minus_l1, h.minus_l1, pick(z > h.l1, h.l1, z)) - z
    return pick(move == 0.0, 0.0, move / (after * h.inverse_lr + h.below)), z


def update(p, g, s, h):
    n = s.accumulator + g * g
    p, z = leader(p * h.keep, g, s.linear, math.sqrt(s.accumulator), math.sqrt(n), h)
    return p, State(n, z)


def update_power(p, g, s, h):
    n = s.accumulator + g * g
    p, z = leader(p * h.keep, g, s.linear, power(s.accumulator, h), power(n, h), h)
    return p, State(n, z)


def _reference(p, g, s, root, lr, l1, below, l2_shrinkage, weight_decay):
    p = p * (1.0 - lr * weight_decay)
    n = s.accumulator + g * g
    z = s.linear + ((g + (2.0 * l2_shrinkage) * p) - (root(n) - root(s.accumulator)) * (1.0 / lr) * p)
    move = np.where(z < -l1, -l1, np.where(z > l1, l1, z)).astype(z.dtype) - z
    return np.where(move == 0.0, 0.0, move / (root(n) * (1.0 / lr) + below)).astype(p.dtype), State(n, z)


def reference(
    p, g, s, step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=1.0, weight_decay=0.0, learning_rate_power=-0.5
):
    return _reference(p, g, s, np.sqrt, lr, l1, beta / lr + l2, l2_shrinkage, weight_decay)


def reference_keras(
    p, g, s, step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=0.0, weight_decay=0.0, learning_rate_power=-0.5
):
    return _reference(p, g, s, np.sqrt, lr, l1, beta / lr + 2.0 * l2, l2_shrinkage, weight_decay)


def reference_power(
    p, g, s, step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=1.0, weight_decay=0.0, learning_rate_power=-0.5
):
    def root(x):
        return power_of(x, -learning_rate_power)

    return _reference(p, g, s, root, lr, l1, beta / lr + l2, l2_shrinkage, weight_decay)


def reference_power_keras(
    p, g, s, step, *, lr, l1=0.0, l2=0.0, l2_shrinkage=0.0, beta=0.0, weight_decay=0.0, learning_rate_power=-0.5
):
    def root(x):
        return power_of(x, -learning_rate_power)

    return _reference(p, g, s, root, lr, l1, beta / lr + 2.0 * l2, l2_shrinkage, weight_decay)


LIMITS = {
    "lr": Interval(1e-30),  # it is divided by
    "learning_rate_power": Interval(-1.0, 0.0),
    **dict.fromkeys(("l1", "l2", "l2_shrinkage", "beta", "weight_decay", "initial_accumulator_value"), NOT_NEGATIVE),
}


def _rule(name, cls, numbers, function, dull, start, paper="McMahan et al. 2013, Algorithm 1"):
    return Rule(
        name, State, cls, numbers, function, dull, start, limits=LIMITS, paper=paper, not_negative=("accumulator",)
    )  # fmt: skip


_KERAS = "McMahan et al. 2013, Algorithm 1, as in Keras"
FTRL = _rule("ftrl", Scalars, scalars, update, reference, initial)
FTRL_POWER = _rule("ftrl_power", PowerScalars, scalars_power, update_power, reference_power, initial)
FTRL_KERAS = _rule("ftrl_keras", Scalars, scalars_keras, update, reference_keras, initial_keras, _KERAS)
FTRL_POWER_KERAS = _rule(
    "ftrl_power_keras", PowerScalars, scalars_power_keras, update_power, reference_power_keras, initial_keras, _KERAS
)  # fmt: skip


def select(*, learning_rate_power, convention="paper", **_):
    """The rule that runs for a group's options."""
    if convention == "keras":
        return FTRL_KERAS if learning_rate_power == -0.5 else FTRL_POWER_KERAS
    return FTRL if learning_rate_power == -0.5 else FTRL_POWER
