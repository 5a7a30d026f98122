"""RMSprop: the gradient over a running root mean square of itself.

Tieleman & Hinton 2012, "Neural Networks for Machine Learning", lecture 6.5; the centered form is Graves 2013,
"Generating Sequences With Recurrent Neural Networks", equations 38-45::

    g'         = g + weight_decay * p
    square_avg = alpha * square_avg + (1 - alpha) * g'^2
    grad_avg   = alpha * grad_avg + (1 - alpha) * g'              centered only
    d          = g' / (sqrt(square_avg [- grad_avg^2]) + eps)
    p          = p - lr * d                                       without momentum
    b          = momentum * b + d ;  p = p - lr * b               with momentum

Convention: torch. eps stands outside the root, lr outside the momentum buffer, alpha = 0.99. Keras puts eps = 1e-7
inside the root, lr inside the buffer, and has rho = 0.9. Optax puts eps = 1e-8 inside the root (``eps_in_sqrt=True``)
and lr inside the buffer, with decay = 0.9; Graves has 1e-4 inside. Rounding can leave ``square_avg - grad_avg^2`` a
little below zero, where torch's root is NaN; here it is taken as zero.
"""

import math
from collections import namedtuple

import numpy as np

from ..rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["square_avg"])
MomentumState = namedtuple("MomentumState", ["square_avg", "momentum_buffer"])
CenteredState = namedtuple("CenteredState", ["square_avg", "grad_avg"])
CenteredMomentumState = namedtuple("CenteredMomentumState", ["square_avg", "grad_avg", "momentum_buffer"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay", "alpha", "one_minus_alpha", "eps", "momentum"])


def scalars(step, *, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
    return Scalars(lr, weight_decay, alpha, 1.0 - alpha, eps, momentum)


def update(p, g, s, h):
    g = g + h.weight_decay * p
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    return p - h.lr * (g / (math.sqrt(v) + h.eps)), State(v)


def update_momentum(p, g, s, h):
    g = g + h.weight_decay * p
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    b = h.momentum * s.momentum_buffer + g / (math.sqrt(v) + h.eps)
    return p - h.lr * b, MomentumState(v, b)


def update_centered(p, g, s, h):
    g = g + h.weight_decay * p
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    return p - h.lr * (g / (math.sqrt(variance) + h.eps)), CenteredState(v, a)


def update_centered_momentum(p, g, s, h):
    g = g + h.weight_decay * p
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    b = h.momentum * s.momentum_buffer + g / (math.sqrt(variance) + h.eps)
    return p - h.lr * b, CenteredMomentumState(v, a, b)


def reference(p, g, s, step, *, lr, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0):
    """All four forms, told apart by the state they keep."""
    g = g + weight_decay * p
    new = {"square_avg": alpha * s.square_avg + (1.0 - alpha) * (g * g)}
    variance = new["square_avg"]
    if hasattr(s, "grad_avg"):
        new["grad_avg"] = alpha * s.grad_avg + (1.0 - alpha) * g
        variance = np.maximum(variance - new["grad_avg"] * new["grad_avg"], 0.0)
    d = g / (np.sqrt(variance) + eps)
    if hasattr(s, "momentum_buffer"):
        d = new["momentum_buffer"] = momentum * s.momentum_buffer + d
    return p - lr * d, type(s)(**new)


LIMITS = {"alpha": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "momentum": NOT_NEGATIVE}


def _rule(name, state, function):
    paper = "Tieleman & Hinton 2012, lecture 6.5" + ("; Graves 2013, eq. 38-45" if "centered" in name else "")
    return Rule(name, state, Scalars, scalars, function, reference, limits=LIMITS, paper=paper)


RMSPROP = _rule("rmsprop", State, update)
MOMENTUM = _rule("rmsprop_momentum", MomentumState, update_momentum)
CENTERED = _rule("rmsprop_centered", CenteredState, update_centered)
CENTERED_MOMENTUM = _rule("rmsprop_centered_momentum", CenteredMomentumState, update_centered_momentum)


def select(*, centered, momentum, **_):
    """The rule that runs for a group's options."""
    if centered:
        return CENTERED if momentum == 0.0 else CENTERED_MOMENTUM
    return RMSPROP if momentum == 0.0 else MOMENTUM
