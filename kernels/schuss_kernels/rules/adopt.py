"""ADOPT: Adam that converges with any beta2; the gradient is divided by what was known before it came.

Taniguchi et al. 2024, "ADOPT: Modified Adam Can Converge with Any beta2 with the Optimal Rate", the clipped
form of the paper's later version::

    g'  = g + weight_decay * p                       with coupled decay
    v   = g'^2                                       the first step: nothing else is changed
    p   = p * (1 - lr * weight_decay)                with decoupled decay (g' = g)
    n   = clip(g' / max(sqrt(v), eps), (step - 1)^(1/4))
    m   = beta1 * m + (1 - beta1) * n
    p   = p - lr * m
    v   = beta2 * v + (1 - beta2) * g'^2

clip(x, c) limits x to -c and c. Conventions. ``paper``: as above, decay as in the authors' code. ``optax``: the same,
and decay comes from what it is chained with (``add_decayed_weights``): the decoupled one shrinks p in the first step
too.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, maximum

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "limit", "weight_decay", "keep"],
)


def scalars(step, *, lr, betas, eps, weight_decay, decoupled_weight_decay, use_clipping):
    beta1, beta2 = betas
    coupled, decoupled = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    if step == 1:  # n is limited to 0; divided by at least 1, it is a number before that
        return Scalars(lr, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, coupled, 1.0)
    limit = (step - 1) ** 0.25 if use_clipping else math.inf
    keep = 1.0 - lr * decoupled
    return Scalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, limit, coupled, keep)


def scalars_optax(step, *, lr, betas, eps, weight_decay, decoupled_weight_decay, use_clipping):
    h = scalars(
        step,
        lr=lr,
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        decoupled_weight_decay=decoupled_weight_decay,
        use_clipping=use_clipping,
    )
    return h._replace(keep=1.0 - lr * weight_decay if decoupled_weight_decay else 1.0)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    n = g / maximum(math.sqrt(s.exp_avg_sq), h.eps)
    n = h.limit if n > h.limit else (-h.limit if n < -h.limit else n)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * n
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.lr * m, State(m, v)


def _step(g, s, step, betas, eps, use_clipping):
    """The step before it is multiplied by lr, and the new state."""
    beta1, beta2 = betas
    limit = (step - 1) ** 0.25 if use_clipping else math.inf
    if step == 1:
        beta1, beta2, eps, limit = 1.0, 0.0, 1.0, 0.0
    n = g / np.maximum(np.sqrt(s.exp_avg_sq), eps)
    n = np.where(n > limit, limit, np.where(n < -limit, -limit, n)).astype(g.dtype)
    m = beta1 * s.exp_avg + (1.0 - beta1) * n
    return m, State(m, beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g))


def reference(p, g, s, step, *, lr, betas, eps, weight_decay, decoupled_weight_decay, use_clipping):
    coupled, decoupled = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    m, s = _step(decayed_by(g, coupled, p), s, step, betas, eps, use_clipping)
    return p * (1.0 if step == 1 else 1.0 - lr * decoupled) - lr * m, s


def reference_optax(p, g, s, step, *, lr, betas, eps, weight_decay, decoupled_weight_decay, use_clipping):
    coupled, decoupled = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    m, s = _step(decayed_by(g, coupled, p), s, step, betas, eps, use_clipping)
    return p * (1.0 - lr * decoupled) - lr * m, s


ADOPT = Rule(
    "adopt",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Taniguchi et al. 2024, clipped",
    not_negative=("exp_avg_sq",),
)
OPTAX = ADOPT.variant(
    "adopt_optax",
    scalars=scalars_optax,
    reference=reference_optax,
    paper="Taniguchi et al. 2024, clipped, as in Optax",
)

CONVENTIONS = Conventions(paper=Convention({}, ADOPT), optax=Convention({}, OPTAX))
