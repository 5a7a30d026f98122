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

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import sign

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "one_minus_beta2", "correction2", "eps", "keep"]
)  # fmt: skip


def scalars(step, *, lr, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.0):
    beta1, beta2 = betas
    return Scalars(lr, beta1, 1.0 - beta1, 1.0 - beta2, 1.0, eps, 1.0 - lr * weight_decay)


def scalars_optax(step, *, lr, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.0):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr / (1.0 - betas[0] ** step), correction2=1.0 / math.sqrt(1.0 - betas[1] ** step))


def initial(*, initial_accumulator_value=0.0):
    return State(0.0, initial_accumulator_value)


def initial_optax(*, initial_accumulator_value=1e-6):
    return State(initial_accumulator_value, initial_accumulator_value)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    square = g * g
    v = s.exp_avg_sq - h.one_minus_beta2 * sign(s.exp_avg_sq - square) * square
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def _yogi(p, g, s, *, step_size, correction2, betas, eps, keep):
    """Both conventions."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = s.exp_avg_sq - (1.0 - beta2) * np.sign(s.exp_avg_sq - g * g) * (g * g)
    return p * keep - step_size * (m / (np.sqrt(v) * correction2 + eps)), State(m, v)


def reference(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.0):
    return _yogi(p, g, s, step_size=lr, correction2=1.0, betas=betas, eps=eps, keep=1.0 - lr * weight_decay)


def reference_optax(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-3, weight_decay=0.0):
    step_size, correction2 = lr / (1.0 - betas[0] ** step), 1.0 / math.sqrt(1.0 - betas[1] ** step)
    keep = 1.0 - lr * weight_decay
    return _yogi(p, g, s, step_size=step_size, correction2=correction2, betas=betas, eps=eps, keep=keep)


LIMITS = {
    "betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "initial_accumulator_value": NOT_NEGATIVE,
}  # fmt: skip

YOGI = Rule(
    "yogi", State, Scalars, scalars, update, reference, initial, LIMITS, "Zaheer et al. 2018, Algorithm 2",
    not_negative=("exp_avg_sq",),
)  # fmt: skip
OPTAX = Rule(
    "yogi_optax", State, Scalars, scalars_optax, update, reference_optax, initial_optax, LIMITS,
    "Zaheer et al. 2018, Algorithm 2, as in Optax", not_negative=("exp_avg_sq",),
)  # fmt: skip


def select(*, convention="paper", **_):
    """The rule that runs for a group's options."""
    return OPTAX if convention == "optax" else YOGI
