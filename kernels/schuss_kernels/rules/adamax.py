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

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, maximum

State = namedtuple("State", ["exp_avg", "exp_inf"])
Scalars = namedtuple(
    "Scalars", ["step_size", "beta1", "one_minus_beta1", "beta2", "eps", "floor", "weight_decay", "keep"]
)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    return Scalars(lr / (1.0 - beta1**step), beta1, 1.0 - beta1, beta2, eps, 0.0, weight_decay, 1.0)


def scalars_adamaxw(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=0.0)
    return h._replace(keep=1.0 - lr * weight_decay)


def scalars_keras(step, *, lr, betas, eps, weight_decay):
    h = scalars_adamaxw(step, lr=lr, betas=betas, eps=0.0, weight_decay=weight_decay)
    return h._replace(floor=eps)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    u = maximum(h.beta2 * s.exp_inf, abs(g) + h.eps)
    divisor = u + h.floor
    return p * h.keep - h.step_size * (m / (1.0 if divisor == 0.0 else divisor)), State(m, u)


def _step(g, s, step, lr, betas, eps, floor):
    """What the parameter is moved by, and the new state; ``floor``: the eps of the divisor."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    u = np.maximum(beta2 * s.exp_inf, np.abs(g) + eps)
    divisor = u + floor
    return lr / (1.0 - beta1**step) * (m / np.where(divisor == 0.0, 1.0, divisor)), State(m, u)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _step(decayed_by(g, weight_decay, p), s, step, lr, betas, eps, 0.0)
    return p - move, s


def reference_adamaxw(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _step(g, s, step, lr, betas, eps, 0.0)
    return p * (1.0 - lr * weight_decay) - move, s


def reference_keras(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _step(g, s, step, lr, betas, 0.0, eps)
    return p * (1.0 - lr * weight_decay) - move, s


_PAPER = "Kingma & Ba 2015, Algorithm 2"

ADAMAX = Rule(
    "adamax",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper=_PAPER,
    not_negative=("exp_inf",),
)
ADAMAX_KERAS = ADAMAX.variant(
    "adamax_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_PAPER}, as in Keras"
)
ADAMAXW = ADAMAX.variant(
    "adamaxw",
    scalars=scalars_adamaxw,
    reference=reference_adamaxw,
    paper=f"{_PAPER}; the decay is Loshchilov & Hutter's, 2019",
)

CONVENTIONS = Conventions(
    torch=Convention({"lr": 2e-3, "eps": 1e-8}, ADAMAX),
    keras=Convention({"lr": 1e-3, "eps": 1e-7}, ADAMAX_KERAS),
    optax=Convention({"lr": 2e-3, "eps": 1e-8}, ADAMAX),
    paper=Convention({"lr": 2e-3, "eps": 0.0}, ADAMAX),
)
