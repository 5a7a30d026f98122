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

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", [])
MomentumState = namedtuple("MomentumState", ["momentum_buffer"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay"])
MomentumScalars = namedtuple("MomentumScalars", ["lr", "weight_decay", "momentum", "undampened"])
VelocityState = namedtuple("VelocityState", ["velocity"])
VelocityScalars = namedtuple("VelocityScalars", ["lr", "weight_decay", "momentum", "keep"])


def scalars(step, *, lr, weight_decay=0.0):
    return Scalars(lr, weight_decay)


def momentum_scalars(step, *, lr, momentum=0.9, dampening=0.0, weight_decay=0.0):
    # The buffer starts as the first gradient; from zeros that is one step without dampening.
    return MomentumScalars(lr, weight_decay, momentum, 1.0 if step == 1 else 1.0 - dampening)


def velocity_scalars(step, *, lr, momentum=0.9, weight_decay=0.0):
    return VelocityScalars(lr, weight_decay, momentum, 1.0)


def velocity_scalars_keras(step, *, lr, momentum=0.9, weight_decay=0.0):
    return VelocityScalars(lr, 0.0, momentum, 1.0 - lr * weight_decay)


def update(p, g, s, h):
    g = g + h.weight_decay * p
    return p - h.lr * g, State()


def update_momentum(p, g, s, h):
    g = g + h.weight_decay * p
    b = h.momentum * s.momentum_buffer + h.undampened * g
    return p - h.lr * b, MomentumState(b)


def update_nesterov(p, g, s, h):
    g = g + h.weight_decay * p
    b = h.momentum * s.momentum_buffer + h.undampened * g
    return p - h.lr * (g + h.momentum * b), MomentumState(b)


def update_velocity(p, g, s, h):
    v = h.momentum * s.velocity - h.lr * (g + h.weight_decay * p)
    return p * h.keep + v, VelocityState(v)


def update_velocity_nesterov(p, g, s, h):
    d = h.lr * (g + h.weight_decay * p)
    v = h.momentum * s.velocity - d
    return p * h.keep + (h.momentum * v - d), VelocityState(v)


def reference(p, g, s, step, *, lr, weight_decay=0.0):
    g = g + weight_decay * p
    return p - lr * g, State()


def reference_momentum(p, g, s, step, *, lr, momentum=0.9, dampening=0.0, weight_decay=0.0):
    g = g + weight_decay * p
    b = momentum * s.momentum_buffer + (1.0 if step == 1 else 1.0 - dampening) * g
    return p - lr * b, MomentumState(b)


def reference_nesterov(p, g, s, step, *, lr, momentum=0.9, dampening=0.0, weight_decay=0.0):
    g = g + weight_decay * p
    b = momentum * s.momentum_buffer + (1.0 if step == 1 else 1.0 - dampening) * g
    return p - lr * (g + momentum * b), MomentumState(b)


def _with_velocity(p, g, s, *, lr, momentum, coupled=0.0, decoupled=0.0):
    """The parameter after its decay, what the gradient moves it by, and the new velocity."""
    d = lr * (g + coupled * p)
    return p * (1.0 - lr * decoupled), d, momentum * s.velocity - d


def reference_velocity(p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0):
    p, _, v = _with_velocity(p, g, s, lr=lr, momentum=momentum, coupled=weight_decay)
    return p + v, VelocityState(v)


def reference_velocity_nesterov(p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0):
    p, d, v = _with_velocity(p, g, s, lr=lr, momentum=momentum, coupled=weight_decay)
    return p + (momentum * v - d), VelocityState(v)


def reference_keras(p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0):
    p, _, v = _with_velocity(p, g, s, lr=lr, momentum=momentum, decoupled=weight_decay)
    return p + v, VelocityState(v)


def reference_keras_nesterov(p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0):
    p, d, v = _with_velocity(p, g, s, lr=lr, momentum=momentum, decoupled=weight_decay)
    return p + (momentum * v - d), VelocityState(v)


LIMITS = {"momentum": NOT_NEGATIVE, "dampening": FRACTION, "weight_decay": NOT_NEGATIVE}

SGD = Rule("sgd", State, Scalars, scalars, update, reference, limits=LIMITS, paper="Robbins & Monro 1951")
MOMENTUM = Rule(
    "sgd_momentum", MomentumState, MomentumScalars, momentum_scalars, update_momentum, reference_momentum,
    limits=LIMITS, paper="Polyak 1964",
)  # fmt: skip
NESTEROV = Rule(
    "sgd_nesterov", MomentumState, MomentumScalars, momentum_scalars, update_nesterov, reference_nesterov,
    limits=LIMITS, paper="Sutskever et al. 2013, section 2",
)  # fmt: skip


def _velocity_rule(name, scalars, update, reference, paper):
    return Rule(name, VelocityState, VelocityScalars, scalars, update, reference, limits=LIMITS, paper=paper)


VELOCITY = _velocity_rule(
    "sgd_velocity", velocity_scalars, update_velocity, reference_velocity, "Polyak 1964"
)  # fmt: skip
VELOCITY_NESTEROV = _velocity_rule(
    "sgd_velocity_nesterov", velocity_scalars, update_velocity_nesterov, reference_velocity_nesterov,
    "Sutskever et al. 2013, section 2",
)  # fmt: skip
KERAS = _velocity_rule(
    "sgd_keras", velocity_scalars_keras, update_velocity, reference_keras, "Polyak 1964, as in Keras"
)  # fmt: skip
KERAS_NESTEROV = _velocity_rule(
    "sgd_keras_nesterov", velocity_scalars_keras, update_velocity_nesterov, reference_keras_nesterov,
    "Sutskever et al. 2013, section 2, as in Keras",
)  # fmt: skip

_BY_CONVENTION = {
    "torch": (MOMENTUM, NESTEROV),
    "optax": (MOMENTUM, NESTEROV),
    "paper": (VELOCITY, VELOCITY_NESTEROV),
    "keras": (KERAS, KERAS_NESTEROV),
}


def select(*, momentum, nesterov, dampening, convention="torch", **_):
    """The rule that runs for a group's options."""
    if nesterov and not (momentum > 0.0 and dampening == 0.0):
        raise ValueError(f"nesterov needs momentum above 0 and no dampening; got {momentum=}, {dampening=}")
    if dampening != 0.0 and convention != "torch":
        raise ValueError(f"dampening is torch's; with convention={convention!r} it is 0, got {dampening}")
    return _BY_CONVENTION[convention][nesterov] if momentum != 0.0 else SGD
