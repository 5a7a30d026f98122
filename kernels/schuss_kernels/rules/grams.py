"""Grams: a step of Adam's size in the direction of the gradient's sign.

Cao, Li & Song 2024, "Grams: Gradient Descent with Adaptive Momentum Scaling", the update of AdamW with its sign
replaced::

    m   = beta1 * m + (1 - beta1) * g
    v   = beta2 * v + (1 - beta2) * g^2
    u   = (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
    p   = p * (1 - lr * weight_decay) - lr * sign(g) * |u|

Convention: the paper's. The authors' code folds the correction into lr, so that its eps is larger by
1/sqrt(1 - beta2^step).
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import sign

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps", "keep"]
)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    step_size, correction2 = lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, eps, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = abs(m) / (math.sqrt(v) * h.correction2 + h.eps)
    return p * h.keep - h.step_size * (sign(g) * u), State(m, v)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    u = np.abs(m) / (np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps)
    return p * (1.0 - lr * weight_decay) - lr / (1.0 - beta1**step) * (np.sign(g) * u), State(m, v)


GRAMS = Rule(
    "grams",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Cao, Li & Song 2024",
    not_negative=("exp_avg_sq",),
)
