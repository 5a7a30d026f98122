"""Optimistic gradient descent and optimistic Adam: the last change of the gradient is expected once more.

Mokhtari, Ozdaglar & Pattathil 2019, "A Unified Analysis of Extra-gradient and Optimistic Gradient Methods for Saddle
Point Problems", section 3 with the two rates of section 5; Daskalakis et al. 2018, "Training GANs with Optimism",
Algorithm 1::

    p = p - lr * ((alpha + beta) * r - beta * r_before)        r_before = r at the first step

    r = g'                                                     OGD
    r = m' / (sqrt(v / (1 - beta2^step) + eps_root) + eps)     OptimisticAdam
    m' = beta1 * m / (1 - beta1^(step + 1)) + (1 - beta1) * g' / (1 - beta1^step)     nesterov, the default
    m' = m / (1 - beta1^step)                                                         without
    g' = g + weight_decay * p

with Adam's running means m and v. Convention: Optax's ``optimistic_gradient_descent`` and ``optimistic_adam_v2``, which
have no decay of their own. Daskalakis's Algorithm 1 is alpha = beta = 1 without nesterov, where beta is 1 at the first
step too (there ``r_before`` is 0).
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, product, product_of

State = namedtuple("State", ["previous_gradient"])
Scalars = namedtuple("Scalars", ["now", "before", "weight_decay"])
AdamState = namedtuple("AdamState", ["exp_avg", "exp_avg_sq", "previous_update"])
AdamScalars = namedtuple(
    "AdamScalars",
    [
        "now",
        "before",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "by_mean",
        "by_gradient",
        "correction2",
        "eps",
        "eps_root",
        "weight_decay",
    ],
)


def shares(step, lr, alpha, beta):
    """What the present and the past direction are multiplied by."""
    return (lr * alpha, 0.0) if step == 1 else (lr * (alpha + beta), lr * beta)


def scalars(step, *, lr, alpha, beta, weight_decay):
    return Scalars(*shares(step, lr, alpha, beta), weight_decay)


def scalars_adam(step, *, lr, alpha, beta, betas, eps, eps_root, weight_decay, nesterov):
    beta1, beta2 = betas
    by_mean = beta1 / (1.0 - beta1 ** (step + 1)) if nesterov else 1.0 / (1.0 - beta1**step)
    by_gradient = (1.0 - beta1) / (1.0 - beta1**step) if nesterov else 0.0
    corrections = by_mean, by_gradient, 1.0 / (1.0 - beta2**step)
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    return AdamScalars(*shares(step, lr, alpha, beta), *averages, *corrections, eps, eps_root, weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    return p - (h.now * g - h.before * s.previous_gradient), State(g)


def update_adam(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    r = (h.by_mean * m + product(h.by_gradient, g)) / (math.sqrt(v * h.correction2 + h.eps_root) + h.eps)
    return p - (h.now * r - h.before * s.previous_update), AdamState(m, v, r)


def reference(p, g, s, step, *, lr, alpha, beta, weight_decay):
    now, before = shares(step, lr, alpha, beta)
    g = decayed_by(g, weight_decay, p)
    return p - (now * g - before * s.previous_gradient), State(g)


def reference_adam(p, g, s, step, *, lr, alpha, beta, betas, eps, eps_root, weight_decay, nesterov):
    beta1, beta2 = betas
    now, before = shares(step, lr, alpha, beta)
    g = decayed_by(g, weight_decay, p)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    by_mean = beta1 / (1.0 - beta1 ** (step + 1)) if nesterov else 1.0 / (1.0 - beta1**step)
    above = by_mean * m + product_of((1.0 - beta1) / (1.0 - beta1**step) if nesterov else 0.0, g)
    r = above / (np.sqrt(v * (1.0 / (1.0 - beta2**step)) + eps_root) + eps)
    return p - (now * r - before * s.previous_update), AdamState(m, v, r)


OGD = Rule(
    "ogd",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"weight_decay": NOT_NEGATIVE},
    paper="Mokhtari et al. 2019, section 5",
)
OPTIMISTIC_ADAM = Rule(
    "optimistic_adam",
    AdamState,
    AdamScalars,
    scalars_adam,
    update_adam,
    reference_adam,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "eps_root": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Daskalakis et al. 2018, Algorithm 1",
    not_negative=("exp_avg_sq",),
)
