"""Adan: Nesterov's momentum for adaptive steps, by the difference of successive gradients.

Xie et al. 2022, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models", Algorithm 1, with betas
that tell how much is kept (the paper's tell how much is new), and corrected for their start at 0 as in the authors'
code::

    d   = g - (the gradient before)                  0 in the first step
    m   = beta1 * m + (1 - beta1) * g
    v   = beta2 * v + (1 - beta2) * d
    n   = beta3 * n + (1 - beta3) * (g + ahead * d)^2
    u   = (m / (1 - beta1^step) + ahead * v / (1 - beta2^step)) / (sqrt(n / (1 - beta3^step) + eps_root) + eps)

Conventions. ``paper``: ahead = beta2, no eps_root, and the decay is a proximal step::

    p   = (p - lr * u) / (1 + lr * weight_decay)

``optax``: ahead = 1 - beta2 (the paper's formula, but with betas that tell what is kept), eps_root = 1e-8, and AdamW's
decay (``no_prox=True`` in the authors' code)::

    p   = p * (1 - lr * weight_decay) - lr * u
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"])
Scalars = namedtuple(
    "Scalars",
    [
        "has_previous",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "beta3",
        "one_minus_beta3",
        "ahead",
        "step_size",
        "diff_size",
        "correction3",
        "eps",
        "eps_root",
        "keep",
        "shrink",
    ],
)


def scalars(step, *, lr, betas, eps, eps_root, weight_decay):
    beta1, beta2, beta3 = betas
    return Scalars(
        has_previous=0.0 if step == 1 else 1.0,
        beta1=beta1,
        one_minus_beta1=1.0 - beta1,
        beta2=beta2,
        one_minus_beta2=1.0 - beta2,
        beta3=beta3,
        one_minus_beta3=1.0 - beta3,
        ahead=beta2,
        step_size=lr / (1.0 - beta1**step),
        diff_size=lr * beta2 / (1.0 - beta2**step),
        correction3=1.0 / (1.0 - beta3**step),
        eps=eps,
        eps_root=eps_root,
        keep=1.0,
        shrink=1.0 / (1.0 + lr * weight_decay),
    )


def scalars_optax(step, *, lr, betas, eps, eps_root, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, eps_root=eps_root, weight_decay=0.0)
    ahead = 1.0 - h.beta2
    return h._replace(ahead=ahead, diff_size=lr * ahead / (1.0 - h.beta2**step), keep=1.0 - lr * weight_decay)


def update(p, g, s, h):
    d = h.has_previous * (g - s.previous_grad)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_diff + h.one_minus_beta2 * d
    x = g + h.ahead * d
    n = h.beta3 * s.exp_avg_sq + h.one_minus_beta3 * (x * x)
    move = (h.step_size * m + h.diff_size * v) / (math.sqrt(n * h.correction3 + h.eps_root) + h.eps)
    return (p * h.keep - move) * h.shrink, State(m, v, n, g)


def _step(g, s, step, lr, betas, eps, eps_root, ahead):
    """What the parameter is moved by, and the new state."""
    beta1, beta2, beta3 = betas
    d = (0.0 if step == 1 else 1.0) * (g - s.previous_grad)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_diff + (1.0 - beta2) * d
    x = g + ahead * d
    n = beta3 * s.exp_avg_sq + (1.0 - beta3) * (x * x)
    denominator = np.sqrt(n * (1.0 / (1.0 - beta3**step)) + eps_root) + eps
    move = (lr / (1.0 - beta1**step) * m + lr * ahead / (1.0 - beta2**step) * v) / denominator
    return move, State(m, v, n, +g)


def reference(p, g, s, step, *, lr, betas, eps, eps_root, weight_decay):
    move, s = _step(g, s, step, lr, betas, eps, eps_root, betas[1])
    return (p - move) * (1.0 / (1.0 + lr * weight_decay)), s


def reference_optax(p, g, s, step, *, lr, betas, eps, eps_root, weight_decay):
    move, s = _step(g, s, step, lr, betas, eps, eps_root, 1.0 - betas[1])
    return p * (1.0 - lr * weight_decay) - move, s


ADAN = Rule(
    "adan",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "eps_root": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Xie et al. 2022, Algorithm 1",
    not_negative=("exp_avg_sq",),
)
OPTAX = ADAN.variant(
    "adan_optax", scalars=scalars_optax, reference=reference_optax, paper="Xie et al. 2022, Algorithm 1, as in Optax"
)

CONVENTIONS = Conventions(
    paper=Convention({"eps_root": 0.0}, ADAN),
    optax=Convention({"eps_root": 1e-8}, OPTAX),
)
