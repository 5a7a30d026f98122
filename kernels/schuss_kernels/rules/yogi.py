"""Yogi: Adam whose second moment moves by no more than the squared gradient, towards it.

Zaheer et al. 2018, "Adaptive Methods for Nonconvex Optimization", Algorithm 2::

    m   = beta1 * m + (1 - beta1) * g
    v   = v - (1 - beta2) * sign(v - g^2) * g^2
    p   = p * (1 - lr * weight_decay) - lr * m / (sqrt(v) + eps)

Conventions. ``paper``: as above; both averages start at 0. ``optax``: both start at 1e-6
(``initial_accumulator_value``), and both are corrected as Adam's are::

    p   = p * (1 - lr * weight_decay) - lr / (1 - beta1^step) * m / (sqrt(v / (1 - beta2^step)) + eps)

With the paper's, ``initial_accumulator_value`` is where v starts (the paper suggests a mean of squared gradients). The
weight decay, AdamW's, is ours: neither has one.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import sign

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "one_minus_beta2", "correction2", "eps", "keep"]
)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    return Scalars(lr, beta1, 1.0 - beta1, 1.0 - beta2, 1.0, eps, 1.0 - lr * weight_decay)


def scalars_optax(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    step_size, correction2 = lr / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(step_size, beta1, 1.0 - beta1, 1.0 - beta2, correction2, eps, 1.0 - lr * weight_decay)


def initial(*, initial_accumulator_value):
    return State(0.0, initial_accumulator_value)


def initial_optax(*, initial_accumulator_value):
    return State(initial_accumulator_value, initial_accumulator_value)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    square = g * g
    v = s.exp_avg_sq - h.one_minus_beta2 * sign(s.exp_avg_sq - square) * square
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = s.exp_avg_sq - (1.0 - beta2) * np.sign(s.exp_avg_sq - g * g) * (g * g)
    return p * (1.0 - lr * weight_decay) - lr * (m / (np.sqrt(v) + eps)), State(m, v)


def reference_optax(p, g, s, step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = s.exp_avg_sq - (1.0 - beta2) * np.sign(s.exp_avg_sq - g * g) * (g * g)
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return p * (1.0 - lr * weight_decay) - lr / (1.0 - beta1**step) * (m / denominator), State(m, v)


_PAPER = "Zaheer et al. 2018, Algorithm 2"
YOGI = Rule(
    "yogi",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={
        "betas": FRACTION,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "initial_accumulator_value": NOT_NEGATIVE,
    },
    paper=_PAPER,
    not_negative=("exp_avg_sq",),
)
OPTAX = YOGI.variant(
    "yogi_optax",
    scalars=scalars_optax,
    reference=reference_optax,
    initial=initial_optax,
    paper=f"{_PAPER}, as in Optax",
)

CONVENTIONS = Conventions(
    paper=Convention({"initial_accumulator_value": 0.0}, YOGI),
    optax=Convention({"initial_accumulator_value": 1e-6}, OPTAX),
)
