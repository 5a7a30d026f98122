"""AdaBelief, which trusts a gradient that came as expected, and ACProp, its asynchronous form.

Zhuang et al. 2020, "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", Algorithm 2::

    g'  = g + weight_decay * p                       with coupled decay
    p   = p * (1 - lr * weight_decay)                with decoupled decay (g' = g)
    m   = beta1 * m + (1 - beta1) * g'
    s   = beta2 * s + (1 - beta2) * (g' - m)^2 + eps_root
    p   = p - lr / (1 - beta1^step) * m / (sqrt(s) / sqrt(1 - beta2^step) + eps)

The paper has one eps for both places; Optax tells them apart. The decay is from the authors' code, which decouples it
unless told otherwise; their rectification (on in their code, not in the paper) is not done here.

Zhuang et al. 2021, "Momentum Centering and Asynchronous Update for Adaptive Gradient Methods" (ACProp)::

    p   = p * (1 - lr * weight_decay) - lr * g / (sqrt(s / (1 - beta2^(step - 1))) + eps)
    s   = beta2 * s + (1 - beta2) * (g - m)^2 + eps_root
    m   = beta1 * m + (1 - beta1) * g

The step is divided by what was known before its gradient came. Convention: Optax's; the first step, which knows
nothing, divides by 1 + eps. In the paper eps stands under the root and no bias is corrected.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["exp_avg", "exp_avg_var"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "correction2",
        "eps",
        "eps_root",
        "weight_decay",
        "keep",
    ],
)
AcpropScalars = namedtuple(
    "AcpropScalars",
    ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "first", "eps", "eps_root", "keep"],
)


def scalars(step, *, lr, betas, eps, eps_root, weight_decay, decoupled_weight_decay):
    beta1, beta2 = betas
    coupled, decoupled = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    return Scalars(
        lr / (1.0 - beta1**step),
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        1.0 / math.sqrt(1.0 - beta2**step),
        eps,
        eps_root,
        coupled,
        1.0 - lr * decoupled,
    )


def scalars_acprop(step, *, lr, betas, eps, eps_root, weight_decay):
    beta1, beta2 = betas
    correction2, first = (0.0, 1.0) if step == 1 else (1.0 / (1.0 - beta2 ** (step - 1)), 0.0)
    keep = 1.0 - lr * weight_decay
    return AcpropScalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, first, eps, eps_root, keep)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    d = g - m
    v = h.beta2 * s.exp_avg_var + h.one_minus_beta2 * (d * d) + h.eps_root
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def update_acprop(p, g, s, h):
    d = g - s.exp_avg
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_var + h.one_minus_beta2 * (d * d) + h.eps_root
    denominator = math.sqrt(s.exp_avg_var * h.correction2 + h.first) + h.eps
    return p * h.keep - h.lr * (g / denominator), State(m, v)


def reference(p, g, s, step, *, lr, betas, eps, eps_root, weight_decay, decoupled_weight_decay):
    beta1, beta2 = betas
    coupled, decoupled = (0.0, weight_decay) if decoupled_weight_decay else (weight_decay, 0.0)
    g = decayed_by(g, coupled, p)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_var + (1.0 - beta2) * ((g - m) * (g - m)) + eps_root
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return p * (1.0 - lr * decoupled) - lr / (1.0 - beta1**step) * (m / denominator), State(m, v)


def reference_acprop(p, g, s, step, *, lr, betas, eps, eps_root, weight_decay):
    beta1, beta2 = betas
    d = g - s.exp_avg
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_var + (1.0 - beta2) * (d * d) + eps_root
    correction2, first = (0.0, 1.0) if step == 1 else (1.0 / (1.0 - beta2 ** (step - 1)), 0.0)
    denominator = np.sqrt(s.exp_avg_var * correction2 + first) + eps
    return p * (1.0 - lr * weight_decay) - lr * (g / denominator), State(m, v)


ADABELIEF = Rule(
    "adabelief",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "eps_root": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Zhuang et al. 2020, Algorithm 2",
    not_negative=("exp_avg_var",),
)
ACPROP = ADABELIEF.variant(
    "acprop",
    Scalars=AcpropScalars,
    scalars=scalars_acprop,
    update=update_acprop,
    reference=reference_acprop,
    paper="Zhuang et al. 2021, as in Optax",
)
