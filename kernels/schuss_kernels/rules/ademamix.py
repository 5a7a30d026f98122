"""AdEMAMix: Adam with a second, much slower mean of the gradient; and its form with one mean.

Pagliardini, Ablin & Grangier 2024, "The AdEMAMix Optimizer: Better, Faster, Older", Algorithm 1::

    m1  = beta1 * m1 + (1 - beta1) * g
    m2  = beta3(step) * m2 + (1 - beta3(step)) * g
    v   = beta2 * v + (1 - beta2) * g^2
    u   = (m1 / (1 - beta1^step) + alpha(step) * m2) / (sqrt(v / (1 - beta2^step)) + eps)
    p   = p * (1 - lr * weight_decay) - lr * u

The slow mean is not corrected: it is to fill slowly. Both its numbers may warm up over T = ``t_alpha_beta3`` steps with
the paper's schedules: alpha linearly from 0, beta3 from beta1 so that its half-life grows linearly::

    alpha(step) = min(1, step / T) * alpha
    1 / ln beta3(step) = (1 - step / T) / ln beta1 + (step / T) / ln beta3        until T, and at most beta3

T = 0 is no warm-up. Optax and the authors' code have the same arithmetic; the latter has alpha = 2, and two numbers T.

Morwani et al. 2025, "Connections between Schedule-Free Optimizers, AdEMAMix, and Accelerated SGD Variants"
(simplified AdEMAMix), as in Optax::

    m   = beta1 * m + g
    u   = (m + alpha * g) / (sqrt(v / (1 - beta2^step)) + eps)

There m is a sum: lr is about 1 - beta1 times Adam's.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_slow", "exp_avg_sq"])
SimplifiedState = namedtuple("SimplifiedState", ["momentum_buffer", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size",
        "slow_size",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "beta3",
        "one_minus_beta3",
        "correction2",
        "eps",
        "keep",
    ],
)
SimplifiedScalars = namedtuple(
    "SimplifiedScalars", ["lr", "beta1", "alpha", "beta2", "one_minus_beta2", "correction2", "eps", "keep"]
)


def warmed(step, beta1, beta3, alpha, t_alpha_beta3):
    """alpha and beta3 of a step."""
    if step >= t_alpha_beta3:
        return alpha, beta3
    part = step / t_alpha_beta3
    if beta3 == 0.0:
        return part * alpha, 0.0
    start = (1.0 - part) / math.log(beta1) if beta1 > 0.0 else 0.0
    return part * alpha, min(math.exp(1.0 / (start + part / math.log(beta3))), beta3)


def scalars(step, *, lr, betas, alpha, t_alpha_beta3, eps, weight_decay):
    beta1, beta2, beta3 = betas
    alpha, beta3 = warmed(step, beta1, beta3, alpha, t_alpha_beta3)
    return Scalars(
        lr / (1.0 - beta1**step),
        lr * alpha,
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        beta3,
        1.0 - beta3,
        1.0 / math.sqrt(1.0 - beta2**step),
        eps,
        1.0 - lr * weight_decay,
    )


def scalars_simplified(step, *, lr, betas, alpha, eps, weight_decay):
    beta1, beta2 = betas
    correction2, keep = 1.0 / math.sqrt(1.0 - beta2**step), 1.0 - lr * weight_decay
    return SimplifiedScalars(lr, beta1, alpha, beta2, 1.0 - beta2, correction2, eps, keep)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    slow = h.beta3 * s.exp_avg_slow + h.one_minus_beta3 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    move = (h.step_size * m + h.slow_size * slow) / (math.sqrt(v) * h.correction2 + h.eps)
    return p * h.keep - move, State(m, slow, v)


def update_simplified(p, g, s, h):
    m = h.beta1 * s.momentum_buffer + g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = (m + h.alpha * g) / (math.sqrt(v) * h.correction2 + h.eps)
    return p * h.keep - h.lr * u, SimplifiedState(m, v)


def reference(p, g, s, step, *, lr, betas, alpha, t_alpha_beta3, eps, weight_decay):
    beta1, beta2, beta3 = betas
    alpha, beta3 = warmed(step, beta1, beta3, alpha, t_alpha_beta3)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    slow = beta3 * s.exp_avg_slow + (1.0 - beta3) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    move = (lr / (1.0 - beta1**step) * m + lr * alpha * slow) / denominator
    return p * (1.0 - lr * weight_decay) - move, State(m, slow, v)


def reference_simplified(p, g, s, step, *, lr, betas, alpha, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.momentum_buffer + g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    u = (m + alpha * g) / (np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps)
    return p * (1.0 - lr * weight_decay) - lr * u, SimplifiedState(m, v)


_LIMITS = {"betas": FRACTION, **dict.fromkeys(("alpha", "t_alpha_beta3", "eps", "weight_decay"), NOT_NEGATIVE)}

ADEMAMIX = Rule(
    "ademamix",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits=_LIMITS,
    paper="Pagliardini, Ablin & Grangier 2024, Algorithm 1",
    not_negative=("exp_avg_sq",),
)
SIMPLIFIED = ADEMAMIX.variant(
    "simplified_ademamix",
    State=SimplifiedState,
    Scalars=SimplifiedScalars,
    scalars=scalars_simplified,
    update=update_simplified,
    reference=reference_simplified,
    paper="Morwani et al. 2025, as in Optax",
)
