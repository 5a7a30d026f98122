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

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_diff", "exp_avg_sq", "previous_grad"])
Scalars = namedtuple(
    "Scalars",
    [
        "has_previous", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "beta3", "one_minus_beta3", "ahead",
        "step_size", "diff_size", "correction3", "eps", "eps_root", "keep", "shrink",
    ],
)  # fmt: skip


def _scalars(step, lr, betas, eps, eps_root, ahead, keep, shrink):
    beta1, beta2, beta3 = betas
    return Scalars(
        0.0 if step == 1 else 1.0, beta1, 1.0 - beta1, beta2, 1.0 - beta2, beta3, 1.0 - beta3, ahead,
        lr / (1.0 - beta1**step), lr * ahead / (1.0 - beta2**step), 1.0 / (1.0 - beta3**step),
        eps, eps_root, keep, shrink,
    )  # fmt: skip


def scalars(step, *, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, eps_root=0.0, weight_decay=0.0):
    return _scalars(step, lr, betas, eps, eps_root, betas[1], 1.0, 1.0 / (1.0 + lr * weight_decay))


def scalars_optax(step, *, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, eps_root=1e-8, weight_decay=0.0):
    return _scalars(step, lr, betas, eps, eps_root, 1.0 - betas[1], 1.0 - lr * weight_decay, 1.0)


def update(p, g, s, h):
    d = h.has_previous * (g - s.previous_grad)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_diff + h.one_minus_beta2 * d
    x = g + h.ahead * d
    n = h.beta3 * s.exp_avg_sq + h.one_minus_beta3 * (x * x)
    move = (h.step_size * m + h.diff_size * v) / (math.sqrt(n * h.correction3 + h.eps_root) + h.eps)
    return (p * h.keep - move) * h.shrink, State(m, v, n, g)


def _adan(p, g, s, step, *, lr, betas, eps, eps_root, ahead, keep, shrink):
    """Both conventions."""
    beta1, beta2, beta3 = betas
    d = (0.0 if step == 1 else 1.0) * (g - s.previous_grad)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_diff + (1.0 - beta2) * d
    x = g + ahead * d
    n = beta3 * s.exp_avg_sq + (1.0 - beta3) * (x * x)
    denominator = np.sqrt(n * (1.0 / (1.0 - beta3**step)) + eps_root) + eps
    move = (lr / (1.0 - beta1**step) * m + lr * ahead / (1.0 - beta2**step) * v) / denominator
    return (p * keep - move) * shrink, State(m, v, n, +g)


def reference(p, g, s, step, *, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, eps_root=0.0, weight_decay=0.0):
    places = {"ahead": betas[1], "keep": 1.0, "shrink": 1.0 / (1.0 + lr * weight_decay)}
    return _adan(p, g, s, step, lr=lr, betas=betas, eps=eps, eps_root=eps_root, **places)


def reference_optax(p, g, s, step, *, lr, betas=(0.98, 0.92, 0.99), eps=1e-8, eps_root=1e-8, weight_decay=0.0):
    places = {"ahead": 1.0 - betas[1], "keep": 1.0 - lr * weight_decay, "shrink": 1.0}
    return _adan(p, g, s, step, lr=lr, betas=betas, eps=eps, eps_root=eps_root, **places)


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "eps_root": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}

ADAN = Rule(
    "adan", State, Scalars, scalars, update, reference, limits=LIMITS, paper="Xie et al. 2022, Algorithm 1",
    not_negative=("exp_avg_sq",),
)  # fmt: skip
OPTAX = Rule(
    "adan_optax", State, Scalars, scalars_optax, update, reference_optax, limits=LIMITS,
    paper="Xie et al. 2022, Algorithm 1, as in Optax", not_negative=("exp_avg_sq",),
)  # fmt: skip


def select(*, convention="paper", **_):
    """The rule that runs for a group's options."""
    return OPTAX if convention == "optax" else ADAN
