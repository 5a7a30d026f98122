"""RMSprop: the gradient over a running root mean square of itself.

Tieleman & Hinton 2012, "Neural Networks for Machine Learning", lecture 6.5; the centered form is Graves 2013,
"Generating Sequences With Recurrent Neural Networks", equations 38-45::

    g'         = g + weight_decay * p
    square_avg = alpha * square_avg + (1 - alpha) * g'^2
    grad_avg   = alpha * grad_avg + (1 - alpha) * g'              centered only
    d          = g' / (sqrt(square_avg [- grad_avg^2]) + eps)
    p          = p - lr * d                                       without momentum
    b          = momentum * b + d ;  p = p - lr * b               with momentum

Conventions. ``torch``: as above; eps stands outside the root, lr outside the momentum buffer, alpha = 0.99. The others
have both inside, which is Graves's form::

    d          = lr * g' / sqrt(square_avg [- grad_avg^2] + eps)
    p          = p - d                                            without momentum
    b          = momentum * b + d ;  p = p - b                    with momentum

``optax``: alpha = 0.9, eps = 1e-8 (its ``eps_in_sqrt=True``). ``paper``: alpha = 0.95, eps = 1e-4 and lr = 1e-4 are
Graves's; the lecture has alpha = 0.9, and no eps. ``keras``: alpha = 0.9, eps = 1e-7, and a decoupled decay, ``p = p *
(1 - lr * weight_decay)`` with ``g' = g``. Rounding can leave ``square_avg - grad_avg^2`` a little below zero, where
their roots can be NaN; here it is taken as zero.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["square_avg"])
MomentumState = namedtuple("MomentumState", ["square_avg", "momentum_buffer"])
CenteredState = namedtuple("CenteredState", ["square_avg", "grad_avg"])
CenteredMomentumState = namedtuple("CenteredMomentumState", ["square_avg", "grad_avg", "momentum_buffer"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay", "alpha", "one_minus_alpha", "eps", "momentum"])
VelocityState = namedtuple("VelocityState", ["square_avg", "velocity"])
CenteredVelocityState = namedtuple("CenteredVelocityState", ["square_avg", "grad_avg", "velocity"])
InsideScalars = namedtuple(
    "InsideScalars", ["lr", "weight_decay", "alpha", "one_minus_alpha", "eps", "momentum", "keep"]
)


def scalars(step, *, lr, alpha, eps, weight_decay, momentum):
    return Scalars(lr, weight_decay, alpha, 1.0 - alpha, eps, momentum)


def scalars_inside(step, *, lr, alpha, eps, weight_decay, momentum):
    return InsideScalars(lr, weight_decay, alpha, 1.0 - alpha, eps, momentum, 1.0)


def scalars_keras(step, *, lr, alpha, eps, weight_decay, momentum):
    return InsideScalars(lr, 0.0, alpha, 1.0 - alpha, eps, momentum, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    return p - h.lr * (g / (math.sqrt(v) + h.eps)), State(v)


def update_momentum(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    b = h.momentum * s.momentum_buffer + g / (math.sqrt(v) + h.eps)
    return p - h.lr * b, MomentumState(v, b)


def update_centered(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    return p - h.lr * (g / (math.sqrt(variance) + h.eps)), CenteredState(v, a)


def update_centered_momentum(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    b = h.momentum * s.momentum_buffer + g / (math.sqrt(variance) + h.eps)
    return p - h.lr * b, CenteredMomentumState(v, a, b)


def update_inside(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    return p * h.keep - h.lr * (g / math.sqrt(v + h.eps)), State(v)


def update_inside_momentum(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    b = h.momentum * s.velocity + h.lr * (g / math.sqrt(v + h.eps))
    return p * h.keep - b, VelocityState(v, b)


def update_inside_centered(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    return p * h.keep - h.lr * (g / math.sqrt(variance + h.eps)), CenteredState(v, a)


def update_inside_centered_momentum(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = h.alpha * s.square_avg + h.one_minus_alpha * (g * g)
    a = h.alpha * s.grad_avg + h.one_minus_alpha * g
    variance = v - a * a
    variance = 0.0 if variance < 0.0 else variance
    b = h.momentum * s.velocity + h.lr * (g / math.sqrt(variance + h.eps))
    return p * h.keep - b, CenteredVelocityState(v, a, b)


def _averages(g, s, alpha):
    """The new averages by name, and what stands under the root; centered where the state keeps a ``grad_avg``."""
    new = {"square_avg": alpha * s.square_avg + (1.0 - alpha) * (g * g)}
    variance = new["square_avg"]
    if hasattr(s, "grad_avg"):
        new["grad_avg"] = alpha * s.grad_avg + (1.0 - alpha) * g
        variance = np.maximum(variance - new["grad_avg"] * new["grad_avg"], 0.0)
    return new, variance


def reference(p, g, s, step, *, lr, alpha, eps, weight_decay, momentum):
    """All four forms, told apart by the state they keep."""
    g = decayed_by(g, weight_decay, p)
    new, variance = _averages(g, s, alpha)
    d = g / (np.sqrt(variance) + eps)
    if hasattr(s, "momentum_buffer"):
        d = new["momentum_buffer"] = momentum * s.momentum_buffer + d
    return p - lr * d, type(s)(**new)


def _inside(p, g, s, lr, alpha, eps, momentum, coupled, decoupled):
    """All four forms with eps and lr inside; ``coupled`` and ``decoupled``: the weight decays."""
    g = decayed_by(g, coupled, p)
    new, variance = _averages(g, s, alpha)
    d = lr * (g / np.sqrt(variance + eps))
    if hasattr(s, "velocity"):
        d = new["velocity"] = momentum * s.velocity + d
    return p * (1.0 - lr * decoupled) - d, type(s)(**new)


def reference_inside(p, g, s, step, *, lr, alpha, eps, weight_decay, momentum):
    return _inside(p, g, s, lr, alpha, eps, momentum, weight_decay, 0.0)


def reference_keras(p, g, s, step, *, lr, alpha, eps, weight_decay, momentum):
    return _inside(p, g, s, lr, alpha, eps, momentum, 0.0, weight_decay)


_GRAVES = "Graves 2013, eq. 38-45"
RMSPROP = Rule(
    "rmsprop",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"alpha": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "momentum": NOT_NEGATIVE},
    paper="Tieleman & Hinton 2012, lecture 6.5",
    not_negative=("square_avg",),
)
MOMENTUM = RMSPROP.variant("rmsprop_momentum", State=MomentumState, update=update_momentum)
CENTERED = RMSPROP.variant(
    "rmsprop_centered", State=CenteredState, update=update_centered, paper=f"{RMSPROP.paper}; {_GRAVES}"
)
CENTERED_MOMENTUM = CENTERED.variant(
    "rmsprop_centered_momentum", State=CenteredMomentumState, update=update_centered_momentum
)

INSIDE = RMSPROP.variant(
    "rmsprop_inside",
    Scalars=InsideScalars,
    scalars=scalars_inside,
    update=update_inside,
    reference=reference_inside,
    paper=_GRAVES,
)
INSIDE_MOMENTUM = INSIDE.variant("rmsprop_inside_momentum", State=VelocityState, update=update_inside_momentum)
INSIDE_CENTERED = INSIDE.variant("rmsprop_inside_centered", State=CenteredState, update=update_inside_centered)
INSIDE_CENTERED_MOMENTUM = INSIDE.variant(
    "rmsprop_inside_centered_momentum", State=CenteredVelocityState, update=update_inside_centered_momentum
)

KERAS = INSIDE.variant(
    "rmsprop_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_GRAVES}, as in Keras"
)
KERAS_MOMENTUM = KERAS.variant("rmsprop_keras_momentum", State=VelocityState, update=update_inside_momentum)
KERAS_CENTERED = KERAS.variant("rmsprop_keras_centered", State=CenteredState, update=update_inside_centered)
KERAS_CENTERED_MOMENTUM = KERAS.variant(
    "rmsprop_keras_centered_momentum", State=CenteredVelocityState, update=update_inside_centered_momentum
)

_TORCH = {"momentum": MOMENTUM, "centered": CENTERED, "centered momentum": CENTERED_MOMENTUM}
_INSIDE = {"momentum": INSIDE_MOMENTUM, "centered": INSIDE_CENTERED, "centered momentum": INSIDE_CENTERED_MOMENTUM}
_KERAS = {"momentum": KERAS_MOMENTUM, "centered": KERAS_CENTERED, "centered momentum": KERAS_CENTERED_MOMENTUM}
CONVENTIONS = Conventions(
    torch=Convention({"lr": 1e-2, "alpha": 0.99, "eps": 1e-8}, RMSPROP, _TORCH),
    keras=Convention({"lr": 1e-3, "alpha": 0.9, "eps": 1e-7}, KERAS, _KERAS),
    optax=Convention({"lr": 1e-2, "alpha": 0.9, "eps": 1e-8}, INSIDE, _INSIDE),
    paper=Convention({"lr": 1e-4, "alpha": 0.95, "eps": 1e-4}, INSIDE, _INSIDE),
)


def rule_for(*, centered, momentum, convention, **_):
    """The rule that runs for a group's options."""
    found = CONVENTIONS[convention]
    if centered:
        return found.forms["centered" if momentum == 0.0 else "centered momentum"]
    return found.rule if momentum == 0.0 else found.forms["momentum"]
