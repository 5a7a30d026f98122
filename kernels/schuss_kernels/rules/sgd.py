"""Gradient descent, plain and with momentum.

Plain (Cauchy 1847; Robbins & Monro 1951, "A Stochastic Approximation Method")::

    g' = g + weight_decay * p
    p  = p - lr * g'

Momentum (Polyak 1964, "Some methods of speeding up the convergence of iteration methods")::

    b  = momentum * b + (1 - dampening) * g'        first step: b = g'
    p  = p - lr * b

Nesterov (Sutskever, Martens, Dahl & Hinton 2013, "On the importance of initialization and momentum in deep learning",
section 2, in the form that evaluates the gradient at the current parameters)::

    p  = p - lr * (g' + momentum * b)

Conventions. ``torch``: the equations above. The learning rate stands *outside* the buffer, so a change of lr acts at
once on the whole velocity; the first step takes the gradient undampened. ``optax``: its ``trace`` is the same, without
dampening. ``paper`` and ``keras`` keep lr *inside* the buffer: the same path for a constant lr, another one when lr
changes, since a velocity keeps the rate it was made with::

    v  = momentum * v - lr * g'
    p  = p + v                                                 Polyak
    p  = p + momentum * v - lr * g'                            Nesterov

Sutskever et al. take the gradient at ``p + momentum * v``; seen from that point, which is what a caller holds, theirs
is the last line. Weight decay is added to the gradient (L2); Keras's is decoupled, ``p = p * (1 - lr * weight_decay)``
first and ``g' = g``, which without momentum is the same.
"""

from collections import namedtuple

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", [])
MomentumState = namedtuple("MomentumState", ["momentum_buffer"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay"])
MomentumScalars = namedtuple("MomentumScalars", ["lr", "weight_decay", "momentum", "undampened"])
VelocityState = namedtuple("VelocityState", ["velocity"])
VelocityScalars = namedtuple("VelocityScalars", ["lr", "weight_decay", "momentum", "keep"])


def scalars(step, *, lr, weight_decay):
    return Scalars(lr, weight_decay)


def momentum_scalars(step, *, lr, momentum, dampening, weight_decay):
    # The buffer starts as the first gradient; from zeros that is one step without dampening.
    return MomentumScalars(lr, weight_decay, momentum, 1.0 if step == 1 else 1.0 - dampening)


def velocity_scalars(step, *, lr, momentum, weight_decay):
    return VelocityScalars(lr, weight_decay, momentum, 1.0)


def velocity_scalars_keras(step, *, lr, momentum, weight_decay):
    return VelocityScalars(lr, 0.0, momentum, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    return p - h.lr * g, State()


def update_momentum(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    b = h.momentum * s.momentum_buffer + h.undampened * g
    return p - h.lr * b, MomentumState(b)


def update_nesterov(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    b = h.momentum * s.momentum_buffer + h.undampened * g
    return p - h.lr * (g + h.momentum * b), MomentumState(b)


def update_velocity(p, g, s, h):
    v = h.momentum * s.velocity - h.lr * decayed(g, h.weight_decay, p)
    return p * h.keep + v, VelocityState(v)


def update_velocity_nesterov(p, g, s, h):
    d = h.lr * decayed(g, h.weight_decay, p)
    v = h.momentum * s.velocity - d
    return p * h.keep + (h.momentum * v - d), VelocityState(v)


def reference(p, g, s, step, *, lr, weight_decay):
    g = decayed_by(g, weight_decay, p)
    return p - lr * g, State()


def reference_momentum(p, g, s, step, *, lr, momentum, dampening, weight_decay):
    g = decayed_by(g, weight_decay, p)
    b = momentum * s.momentum_buffer + (1.0 if step == 1 else 1.0 - dampening) * g
    return p - lr * b, MomentumState(b)


def reference_nesterov(p, g, s, step, *, lr, momentum, dampening, weight_decay):
    g = decayed_by(g, weight_decay, p)
    b = momentum * s.momentum_buffer + (1.0 if step == 1 else 1.0 - dampening) * g
    return p - lr * (g + momentum * b), MomentumState(b)


def reference_velocity(p, g, s, step, *, lr, momentum, weight_decay):
    v = momentum * s.velocity - lr * decayed_by(g, weight_decay, p)
    return p + v, VelocityState(v)


def reference_velocity_nesterov(p, g, s, step, *, lr, momentum, weight_decay):
    d = lr * decayed_by(g, weight_decay, p)
    v = momentum * s.velocity - d
    return p + (momentum * v - d), VelocityState(v)


def reference_keras(p, g, s, step, *, lr, momentum, weight_decay):
    v = momentum * s.velocity - lr * g
    return p * (1.0 - lr * weight_decay) + v, VelocityState(v)


def reference_keras_nesterov(p, g, s, step, *, lr, momentum, weight_decay):
    d = lr * g
    v = momentum * s.velocity - d
    return p * (1.0 - lr * weight_decay) + (momentum * v - d), VelocityState(v)


LIMITS = {"momentum": NOT_NEGATIVE, "dampening": FRACTION, "weight_decay": NOT_NEGATIVE}
_NESTEROV = "Sutskever et al. 2013, section 2"

SGD = Rule("sgd", State, Scalars, scalars, update, reference, limits=LIMITS, paper="Robbins & Monro 1951")
MOMENTUM = Rule(
    "sgd_momentum",
    MomentumState,
    MomentumScalars,
    momentum_scalars,
    update_momentum,
    reference_momentum,
    limits=LIMITS,
    paper="Polyak 1964",
)
NESTEROV = MOMENTUM.variant("sgd_nesterov", update=update_nesterov, reference=reference_nesterov, paper=_NESTEROV)
VELOCITY = MOMENTUM.variant(
    "sgd_velocity",
    State=VelocityState,
    Scalars=VelocityScalars,
    scalars=velocity_scalars,
    update=update_velocity,
    reference=reference_velocity,
)
VELOCITY_NESTEROV = VELOCITY.variant(
    "sgd_velocity_nesterov", update=update_velocity_nesterov, reference=reference_velocity_nesterov, paper=_NESTEROV
)
KERAS = VELOCITY.variant(
    "sgd_keras", scalars=velocity_scalars_keras, reference=reference_keras, paper="Polyak 1964, as in Keras"
)
KERAS_NESTEROV = VELOCITY_NESTEROV.variant(
    "sgd_keras_nesterov",
    scalars=velocity_scalars_keras,
    reference=reference_keras_nesterov,
    paper=f"{_NESTEROV}, as in Keras",
)

CONVENTIONS = Conventions(
    torch=Convention({"lr": 1e-3}, SGD, {"momentum": MOMENTUM, "nesterov": NESTEROV}),
    keras=Convention({"lr": 1e-2}, SGD, {"momentum": KERAS, "nesterov": KERAS_NESTEROV}),
    optax=Convention({"lr": 1e-3}, SGD, {"momentum": MOMENTUM, "nesterov": NESTEROV}),
    paper=Convention({"lr": 1e-3}, SGD, {"momentum": VELOCITY, "nesterov": VELOCITY_NESTEROV}),
)


def rule_for(*, momentum, nesterov, dampening, convention, **_):
    """The rule that runs for a group's options."""
    if nesterov and not (momentum > 0.0 and dampening == 0.0):
        raise ValueError(f"nesterov needs momentum above 0 and no dampening; got {momentum=}, {dampening=}")
    if dampening != 0.0 and convention != "torch":
        raise ValueError(f"dampening is torch's; with convention={convention!r} it is 0, got {dampening}")
    found = CONVENTIONS[convention]
    if momentum == 0.0:
        return found.rule
    return found.forms["nesterov" if nesterov else "momentum"]
