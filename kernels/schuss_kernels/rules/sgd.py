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

Convention: torch. The learning rate stands *outside* the buffer, so a change of lr acts at once on the whole velocity;
the first step takes the gradient undampened. Optax's ``trace`` equals this without dampening. Keras and Sutskever's
paper keep lr *inside* the buffer (``b = momentum * b - lr * g``; ``p = p + b``): the same path for a constant lr,
another one when lr changes. Weight decay is added to the gradient (L2), as in torch; Keras's ``weight_decay`` is
decoupled.
"""

from collections import namedtuple

from ..rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", [])
MomentumState = namedtuple("MomentumState", ["momentum_buffer"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay"])
MomentumScalars = namedtuple("MomentumScalars", ["lr", "weight_decay", "momentum", "undampened"])


def scalars(step, *, lr, weight_decay=0.0):
    return Scalars(lr, weight_decay)


def momentum_scalars(step, *, lr, momentum=0.9, dampening=0.0, weight_decay=0.0):
    # The buffer starts as the first gradient; from zeros that is one step without dampening.
    return MomentumScalars(lr, weight_decay, momentum, 1.0 if step == 1 else 1.0 - dampening)


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


def select(*, momentum, nesterov, dampening, **_):
    """The rule that runs for a group's options."""
    if nesterov and not (momentum > 0.0 and dampening == 0.0):
        raise ValueError(f"nesterov needs momentum above 0 and no dampening; got {momentum=}, {dampening=}")
    if momentum == 0.0:
        return SGD
    return NESTEROV if nesterov else MOMENTUM
