"""LaProp: the gradient is scaled first and averaged then; Adam does it the other way round.

Ziyin, Wang & Ueda 2020, "LaProp: Separating Momentum and Adaptivity in Adam"::

    v   = beta2 * v + (1 - beta2) * g^2
    m   = beta1 * m + (1 - beta1) * g / (sqrt(v / (1 - beta2^step)) + eps)
    p   = p * (1 - lr * weight_decay) - lr / (1 - beta1^step) * m

Convention: the paper's, lr outside the mean, with AdamW's decay. The authors' code has lr inside it (the same while lr
stays the same), and takes ``weight_decay * p``, without lr, after the step.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps", "keep"]
)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    step_size, correction2 = lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, eps, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * (g / (math.sqrt(v) * h.correction2 + h.eps))
    return p * h.keep - h.step_size * m, State(m, v)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    scaled = g / (np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps)
    m = beta1 * s.exp_avg + (1.0 - beta1) * scaled
    return p * (1.0 - lr * weight_decay) - lr / (1.0 - beta1**step) * m, State(m, v)


LAPROP = Rule(
    "laprop",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Ziyin, Wang & Ueda 2020",
    not_negative=("exp_avg_sq",),
)
