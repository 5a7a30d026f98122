"""QHM and QHAdam: the gradient averaged once more with its running mean.

Ma & Yarats 2019, "Quasi-hyperbolic Momentum and Adam for Deep Learning", sections 3 and 4::

    b = momentum * b + (1 - momentum) * g'                                  QHM
    p = p - lr * ((1 - nu) * g' + nu * b)

    m = beta1_t * m + (1 - beta1_t) * g'                                    QHAdam
    v = beta2_t * v + (1 - beta2_t) * g'^2
    p = p - lr * ((1 - nu1) * g' + nu1 * m) / (sqrt((1 - nu2) * g'^2 + nu2 * v) + eps)

Convention: the authors' code. The means of QHAdam are kept corrected of their bias: beta_t = 1 - 1 / (1 + beta + ... +
beta^(step - 1)), so that the first step takes the gradient alone. Decay is added to the gradient, ``g' = g +
weight_decay * p``, or decoupled, ``p * (1 - lr * weight_decay)`` with ``g' = g``.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, product, product_of

State = namedtuple("State", ["momentum_buffer"])
Scalars = namedtuple("Scalars", ["by_mean", "by_gradient", "momentum", "one_minus_momentum", "weight_decay", "keep"])
AdamState = namedtuple("AdamState", ["exp_avg", "exp_avg_sq"])
AdamScalars = namedtuple(
    "AdamScalars",
    [
        "lr",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "nu1",
        "one_minus_nu1",
        "nu2",
        "one_minus_nu2",
        "eps",
        "weight_decay",
        "keep",
    ],
)
Weights = namedtuple("Weights", ["beta1_weight", "beta2_weight"], defaults=[0.0, 0.0])


def scalars(step, *, lr, momentum, nu, weight_decay, decoupled_weight_decay):
    coupled, keep = (0.0, 1.0 - lr * weight_decay) if decoupled_weight_decay else (weight_decay, 1.0)
    return Scalars(lr * nu, lr * (1.0 - nu), momentum, 1.0 - momentum, coupled, keep)


def scalars_adam(step, running, *, lr, betas, nus, eps, weight_decay, decoupled_weight_decay):
    running = Weights(*(1.0 + beta * weight for beta, weight in zip(betas, running, strict=True)))
    rest1, rest2 = 1.0 / running.beta1_weight, 1.0 / running.beta2_weight
    nu1, nu2 = nus
    averages = 1.0 - rest1, rest1, 1.0 - rest2, rest2, nu1, 1.0 - nu1, nu2, 1.0 - nu2
    decay = (0.0, 1.0 - lr * weight_decay) if decoupled_weight_decay else (weight_decay, 1.0)
    return AdamScalars(lr, *averages, eps, *decay), running


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    b = h.momentum * s.momentum_buffer + h.one_minus_momentum * g
    return p * h.keep - (product(h.by_mean, b) + product(h.by_gradient, g)), State(b)


def update_adam(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    square = g * g
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * square
    above = product(h.nu1, m) + product(h.one_minus_nu1, g)
    below = math.sqrt(product(h.nu2, v) + product(h.one_minus_nu2, square)) + h.eps
    return p * h.keep - h.lr * (above / below), AdamState(m, v)


def reference(p, g, s, step, *, lr, momentum, nu, weight_decay, decoupled_weight_decay):
    g = decayed_by(g, 0.0 if decoupled_weight_decay else weight_decay, p)
    p = p * (1.0 - lr * weight_decay if decoupled_weight_decay else 1.0)
    b = momentum * s.momentum_buffer + (1.0 - momentum) * g
    return p - (product_of(lr * nu, b) + product_of(lr * (1.0 - nu), g)), State(b)


def reference_adam(p, g, s, step, *, running, lr, betas, nus, eps, weight_decay, decoupled_weight_decay):
    beta1, beta2 = betas
    nu1, nu2 = nus
    g = decayed_by(g, 0.0 if decoupled_weight_decay else weight_decay, p)
    p = p * (1.0 - lr * weight_decay if decoupled_weight_decay else 1.0)
    rest1, rest2 = 1.0 / (1.0 + beta1 * running.beta1_weight), 1.0 / (1.0 + beta2 * running.beta2_weight)
    m = (1.0 - rest1) * s.exp_avg + rest1 * g
    v = (1.0 - rest2) * s.exp_avg_sq + rest2 * (g * g)
    above = product_of(nu1, m) + product_of(1.0 - nu1, g)
    below = np.sqrt(product_of(nu2, v) + product_of(1.0 - nu2, g * g)) + eps
    return p - lr * (above / below), AdamState(m, v)


QHM = Rule(
    "qhm",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"momentum": FRACTION, "weight_decay": NOT_NEGATIVE},
    paper="Ma & Yarats 2019, section 3",
)
QHADAM = Rule(
    "qhadam",
    AdamState,
    AdamScalars,
    scalars_adam,
    update_adam,
    reference_adam,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Ma & Yarats 2019, section 4",
    not_negative=("exp_avg_sq",),
    running=Weights,
)
