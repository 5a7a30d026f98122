"""Sophia: momentum over an estimate of the Hessian's diagonal, every element's step limited.

Liu et al. 2023, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training", Algorithm 3::

    m = beta1 * m + (1 - beta1) * g
    h = beta2 * h + (1 - beta2) * estimate           in every k-th step; a second rule, ``sophia_hessian``
    p = p * (1 - lr * weight_decay)
    p = p - lr * clip(m / max(gamma * h, eps), clip_threshold)            to both sides of zero

The estimate is the caller's: Hutchinson's u * (H u) (Sophia-H), or the Gauss-Newton-Bartlett one, the batch size times
the square of a gradient with labels drawn from the model (Sophia-G). Where h is not positive the step is lr in size.

Conventions. ``paper``: as above; the estimate of a step counts in that step. ``optax``: m is divided by 1 - beta1^step,
and the estimate counts from the next step on. The authors' code of Sophia-G is the paper's with rho * batch size for
gamma, and h + 1e-15 in place of the maximum (its h is a mean of squares, never negative).
"""

from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import maximum

State = namedtuple("State", ["exp_avg", "hessian"])
Scalars = namedtuple(
    "Scalars", ["lr", "beta1", "one_minus_beta1", "correction1", "gamma", "eps", "most", "least", "keep"]
)
HessianState = namedtuple("HessianState", ["hessian"])
HessianScalars = namedtuple("HessianScalars", ["beta2", "one_minus_beta2"])


def scalars(step, *, lr, betas, gamma, eps, weight_decay, clip_threshold):
    beta1, keep = betas[0], 1.0 - lr * weight_decay
    return Scalars(lr, beta1, 1.0 - beta1, 1.0, gamma, eps, clip_threshold, -clip_threshold, keep)


def scalars_optax(step, *, lr, betas, gamma, eps, weight_decay, clip_threshold):
    beta1, keep = betas[0], 1.0 - lr * weight_decay
    correction1 = 1.0 / (1.0 - beta1**step)
    return Scalars(lr, beta1, 1.0 - beta1, correction1, gamma, eps, clip_threshold, -clip_threshold, keep)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    r = m * h.correction1 / maximum(h.gamma * s.hessian, h.eps)
    r = h.most if r > h.most else (h.least if r < h.least else r)
    return p * h.keep - h.lr * r, State(m, s.hessian)


def reference(p, g, s, step, *, lr, betas, gamma, eps, weight_decay, clip_threshold):
    m = betas[0] * s.exp_avg + (1.0 - betas[0]) * g
    r = m / np.maximum(gamma * s.hessian, eps)
    clipped = np.minimum(np.maximum(r, -clip_threshold), clip_threshold)
    return p * (1.0 - lr * weight_decay) - lr * clipped, State(m, s.hessian)


def reference_optax(p, g, s, step, *, lr, betas, gamma, eps, weight_decay, clip_threshold):
    m = betas[0] * s.exp_avg + (1.0 - betas[0]) * g
    r = m * (1.0 / (1.0 - betas[0] ** step)) / np.maximum(gamma * s.hessian, eps)
    clipped = np.minimum(np.maximum(r, -clip_threshold), clip_threshold)
    return p * (1.0 - lr * weight_decay) - lr * clipped, State(m, s.hessian)


def scalars_hessian(step, *, betas):
    return HessianScalars(betas[1], 1.0 - betas[1])


def update_hessian(p, g, s, h):
    return p, HessianState(h.beta2 * s.hessian + h.one_minus_beta2 * g)


def reference_hessian(p, g, s, step, *, betas):
    return p, HessianState(betas[1] * s.hessian + (1.0 - betas[1]) * g)


_PAPER = "Liu et al. 2023, Algorithm 3"
SOPHIA = Rule(
    "sophia",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={
        "betas": FRACTION,
        "gamma": NOT_NEGATIVE,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
        "clip_threshold": NOT_NEGATIVE,
    },
    paper=_PAPER,
)
SOPHIA_OPTAX = SOPHIA.variant(
    "sophia_optax", scalars=scalars_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)
SOPHIA_HESSIAN = Rule(
    "sophia_hessian",
    HessianState,
    HessianScalars,
    scalars_hessian,
    update_hessian,
    reference_hessian,
    paper=_PAPER,
)
"""No optimizer, but what moves the second state: the estimate comes in as the gradient, the parameter stays."""


CONVENTIONS = Conventions(
    paper=Convention({"betas": (0.96, 0.99), "eps": 1e-12, "weight_decay": 0.2}, SOPHIA),
    optax=Convention({"betas": (0.965, 0.99), "eps": 1e-8, "weight_decay": 1e-4}, SOPHIA_OPTAX),
)


def rule_for(*, eps, convention, **_):
    """The rule that runs for a group's options."""
    if eps == 0.0:
        raise ValueError(f"eps: expected a number above 0; got {eps!r}")
    return CONVENTIONS[convention].rule
