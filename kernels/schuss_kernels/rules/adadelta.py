"""Adadelta: the gradient times the root mean square of past steps over that of past gradients.

Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method", Algorithm 1::

    g'         = g + weight_decay * p
    square_avg = rho * square_avg + (1 - rho) * g'^2
    d          = sqrt(acc_delta + eps) / sqrt(square_avg + eps) * g'
    acc_delta  = rho * acc_delta + (1 - rho) * d^2
    p          = p - lr * d

eps stands inside both roots; it is what the first steps come from. lr is not in ``acc_delta``; the paper has none (1).

Conventions. ``torch``: as above with rho = 0.9 and eps = 1e-6; ``optax``: the same. ``paper``: rho = 0.95, eps = 1e-6
(section 4). ``keras``: lr = 0.001, rho = 0.95, eps = 1e-7, and a decoupled decay, ``p = p * (1 - lr * weight_decay)``
with ``g' = g``.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["square_avg", "acc_delta"])
Scalars = namedtuple("Scalars", ["lr", "rho", "one_minus_rho", "eps", "weight_decay", "keep"])


def scalars(step, *, lr, rho, eps, weight_decay):
    return Scalars(lr, rho, 1.0 - rho, eps, weight_decay, 1.0)


def scalars_keras(step, *, lr, rho, eps, weight_decay):
    return Scalars(lr, rho, 1.0 - rho, eps, 0.0, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.rho * s.square_avg + h.one_minus_rho * (g * g)
    d = math.sqrt(s.acc_delta + h.eps) / math.sqrt(v + h.eps) * g
    a = h.rho * s.acc_delta + h.one_minus_rho * (d * d)
    return p * h.keep - h.lr * d, State(v, a)


def _step(g, s, rho, eps):
    """The step before it is multiplied by lr, and the new state."""
    v = rho * s.square_avg + (1.0 - rho) * (g * g)
    d = np.sqrt(s.acc_delta + eps) / np.sqrt(v + eps) * g
    return d, State(v, rho * s.acc_delta + (1.0 - rho) * (d * d))


def reference(p, g, s, step, *, lr, rho, eps, weight_decay):
    d, s = _step(decayed_by(g, weight_decay, p), s, rho, eps)
    return p - lr * d, s


def reference_keras(p, g, s, step, *, lr, rho, eps, weight_decay):
    d, s = _step(g, s, rho, eps)
    return p * (1.0 - lr * weight_decay) - lr * d, s


ADADELTA = Rule(
    "adadelta",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"rho": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Zeiler 2012, Algorithm 1",
    not_negative=("square_avg", "acc_delta"),
)
ADADELTA_KERAS = ADADELTA.variant(
    "adadelta_keras", scalars=scalars_keras, reference=reference_keras, paper="Zeiler 2012, Algorithm 1, as in Keras"
)

CONVENTIONS = Conventions(
    torch=Convention({"lr": 1.0, "rho": 0.9, "eps": 1e-6}, ADADELTA),
    keras=Convention({"lr": 1e-3, "rho": 0.95, "eps": 1e-7}, ADADELTA_KERAS),
    optax=Convention({"lr": 1.0, "rho": 0.9, "eps": 1e-6}, ADADELTA),
    paper=Convention({"lr": 1.0, "rho": 0.95, "eps": 1e-6}, ADADELTA),
)
