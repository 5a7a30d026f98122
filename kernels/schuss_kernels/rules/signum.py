"""SignSGD and Signum: steps of one size, along the signs of the gradient or of its running mean.

Bernstein et al. 2018, "signSGD: Compressed Optimisation for Non-Convex Problems", Algorithms 1 and 2; the weight decay
is that of Bernstein et al. 2019, "signSGD with Majority Vote is Communication Efficient And Fault Tolerant", Algorithm
1::

    m   = beta * m + (1 - beta) * g                  Signum   (SignSGD: m = g)
    p   = p * (1 - lr * weight_decay) - lr * sign(m)

``sign(0)`` is 0. The mean starts at 0 and its bias is not corrected: a positive factor has no sign. Convention: the
papers'; Optax's ``sign_sgd`` and ``signum`` are the same, without a decay.
"""

from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import signed

State = namedtuple("State", ["exp_avg"])
NoState = namedtuple("NoState", [])
Scalars = namedtuple("Scalars", ["lr", "beta", "one_minus_beta", "keep"])
SignScalars = namedtuple("SignScalars", ["lr", "keep"])


def scalars(step, *, lr, beta, weight_decay):
    return Scalars(lr, beta, 1.0 - beta, 1.0 - lr * weight_decay)


def scalars_sign(step, *, lr, weight_decay):
    return SignScalars(lr, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    m = h.beta * s.exp_avg + h.one_minus_beta * g
    return p * h.keep - signed(h.lr, m), State(m)


def update_sign(p, g, s, h):
    return p * h.keep - signed(h.lr, g), NoState()


def reference(p, g, s, step, *, lr, beta, weight_decay):
    m = beta * s.exp_avg + (1.0 - beta) * g
    return p * (1.0 - lr * weight_decay) - lr * np.sign(m), State(m)


def reference_sign(p, g, s, step, *, lr, weight_decay):
    return p * (1.0 - lr * weight_decay) - lr * np.sign(g), NoState()


SIGNSGD = Rule(
    "signsgd",
    NoState,
    SignScalars,
    scalars_sign,
    update_sign,
    reference_sign,
    limits={"weight_decay": NOT_NEGATIVE},
    paper="Bernstein et al. 2018, Algorithm 1",
)
SIGNUM = Rule(
    "signum",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"beta": FRACTION, "weight_decay": NOT_NEGATIVE},
    paper="Bernstein et al. 2018, Algorithm 2",
)
