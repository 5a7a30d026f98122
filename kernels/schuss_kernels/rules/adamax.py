"""Adamax and AdamaxW: Adam with the largest recent gradient in place of the root of the second moment.

Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 2::

    g'  = g + weight_decay * p                       Adamax   (L2)
    p   = p * (1 - lr * weight_decay)                AdamaxW  (decoupled; g' = g)
    m   = beta1 * m + (1 - beta1) * g'
    u   = max(beta2 * u, |g'| + eps)
    p   = p - lr / (1 - beta1^step) * m / u

Conventions. ``torch`` and ``optax``: as above, eps = 1e-8 added to the gradient's size, so that it decays with it.
``paper``: eps = 0. ``keras``: eps = 1e-7 added to the divisor, lr = 0.001, and a decoupled decay in Adamax too::

    u   = max(beta2 * u, |g|)
    p   = p * (1 - lr * weight_decay) - lr / (1 - beta1^step) * m / (u + eps)

AdamaxW is Optax's ``adamaxw``. Where the divisor is 0, as with eps = 0 before the first gradient, the step is m / 1,
which is 0 there, and not 0 / 0.
"""

from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import larger

State = namedtuple("State", ["exp_avg", "exp_inf"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "beta2", "eps", "floor", "weight_decay", "keep"]
)


def scalars(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    beta1, beta2 = betas
    return Scalars(lr / (1.0 - beta1**step), beta1, 1.0 - beta1, beta2, eps, 0.0, weight_decay, 1.0)


def scalars_adamaxw(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
    return scalars(step, lr=lr, betas=betas, eps=eps)._replace(keep=1.0 - lr * weight_decay)


def scalars_keras(step, *, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    return scalars(step, lr=lr, betas=betas)._replace(eps=0.0, floor=eps, keep=1.0 - lr * weight_decay)


def update(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    u = larger(h.beta2 * s.exp_inf, abs(g) + h.eps)
    divisor = u + h.floor
    return p * h.keep - h.step_size * (m / (1.0 if divisor == 0.0 else divisor)), State(m, u)


def _reference(p, g, s, step, lr, betas, eps=0.0, floor=0.0, coupled=0.0, decoupled=0.0):
    """All forms; ``floor``: the eps of the divisor."""
    beta1, beta2 = betas
    g = g + coupled * p
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    u = np.maximum(beta2 * s.exp_inf, np.abs(g) + eps)
    divisor = u + floor
    move = lr / (1.0 - beta1**step) * (m / np.where(divisor == 0.0, 1.0, divisor))
    return p * (1.0 - lr * decoupled) - move, State(m, u)


def reference(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    return _reference(p, g, s, step, lr, betas, eps=eps, coupled=weight_decay)


def reference_adamaxw(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
    return _reference(p, g, s, step, lr, betas, eps=eps, decoupled=weight_decay)


def reference_keras(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    return _reference(p, g, s, step, lr, betas, floor=eps, decoupled=weight_decay)


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}


def _rule(name, scalars, reference, paper):
    return Rule(
        name, State, Scalars, scalars, update, reference, limits=LIMITS, paper=paper, not_negative=("exp_inf",)
    )  # fmt: skip


_PAPER = "Kingma & Ba 2015, Algorithm 2"
ADAMAX = _rule("adamax", scalars, reference, _PAPER)
ADAMAX_KERAS = _rule("adamax_keras", scalars_keras, reference_keras, f"{_PAPER}, as in Keras")
ADAMAXW = _rule("adamaxw", scalars_adamaxw, reference_adamaxw, f"{_PAPER}; the decay is Loshchilov & Hutter's, 2019")


def select(*, convention="torch", **_):
    """The rule that runs for a group's options."""
    return ADAMAX_KERAS if convention == "keras" else ADAMAX
