"""PAdam: AMSGrad that adapts in part, by a power of the second moment that is less than a root.

Chen et al. 2018, "Closing the Generalization Gap of Adaptive Gradient Methods in Training Deep Neural Networks",
Algorithm 1::

    g' = g + weight_decay * p
    m  = beta1 * m + (1 - beta1) * g'
    v  = beta2 * v + (1 - beta2) * g'^2
    w  = max(w, v)
    p  = p - lr * sqrt(1 - beta2^step) / (1 - beta1^step) * m / (sqrt(w) + eps)^(2 * partial)

``partial`` = 1/2 is AMSGrad; towards 0 it comes near to SGD with momentum. Eighths are products of repeated roots,
other powers take longer.

Convention: the authors' code, as above; the paper corrects no bias and has no eps: its divisor is w^partial. The
default 1/8 is the paper's (the code's is 1/4).
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import POWER, decayed, decayed_by, maximum, power, power_of, power_table, select

_FIELDS = ["step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "weight_decay"]
State = namedtuple("State", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
Scalars = namedtuple("Scalars", [*_FIELDS, "whole", "half", "quarter"])  # type: ignore[misc]
PowerScalars = namedtuple("PowerScalars", [*_FIELDS, *POWER])  # type: ignore[misc]


def _numbers(step, lr, betas, eps, weight_decay):
    """The scalars that both rules have."""
    beta1, beta2 = betas
    step_size = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    return step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, weight_decay


def scalars(step, *, lr, betas, eps, weight_decay, partial):
    # Eight times partial in binary: whether the divisor has the number itself, its root, the root of that.
    eighths = int(8.0 * partial)
    digits = float(eighths == 4), float(eighths in (2, 3)), float(eighths in (1, 3))
    return Scalars(*_numbers(step, lr, betas, eps, weight_decay), *digits)


def scalars_power(step, *, lr, betas, eps, weight_decay, partial):
    return PowerScalars(*_numbers(step, lr, betas, eps, weight_decay), *power_table(2.0 * partial))


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_exp_avg_sq, v)
    below = math.sqrt(w) + h.eps
    root = math.sqrt(below)
    roots = select(h.half > 0.0, root, 1.0) * select(h.quarter > 0.0, math.sqrt(root), 1.0)
    return p - h.step_size * (m / select(h.whole > 0.0, below, roots)), State(m, v, w)


def update_power(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_exp_avg_sq, v)
    return p - h.step_size * (m / power(math.sqrt(w) + h.eps, h)), State(m, v, w)


def _reference(p, g, s, step, lr, betas, eps, weight_decay, raised):
    """Both rules; ``raised`` takes the power of the root."""
    beta1, beta2 = betas
    g = decayed_by(g, weight_decay, p)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    w = np.maximum(s.max_exp_avg_sq, v)
    step_size = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    return p - step_size * (m / raised(np.sqrt(w) + eps)), State(m, v, w)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay, partial):
    def eighths(x):
        root = np.sqrt(x)
        return {1: np.sqrt(root), 2: root, 3: root * np.sqrt(root), 4: x}[int(8.0 * partial)]

    return _reference(p, g, s, step, lr, betas, eps, weight_decay, eighths)


def reference_power(p, g, s, step, *, lr, betas, eps, weight_decay, partial):
    return _reference(p, g, s, step, lr, betas, eps, weight_decay, lambda x: power_of(x, 2.0 * partial))


PADAM = Rule(
    "padam",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Chen et al. 2018, Algorithm 1",
    not_negative=("exp_avg_sq", "max_exp_avg_sq"),
)
PADAM_POWER = PADAM.variant(
    "padam_power", Scalars=PowerScalars, scalars=scalars_power, update=update_power, reference=reference_power
)


def rule_for(*, partial, **_):
    """The rule that runs for a group's options."""
    if isinstance(partial, (int, float, np.number)) and not 0.0 < partial <= 0.5:
        raise ValueError(f"partial: expected a number above 0, at most 0.5; got {partial!r}")
    return PADAM if partial in (0.125, 0.25, 0.375, 0.5) else PADAM_POWER
