"""AdaBound and AMSBound: Adam whose learning rates are kept between two bounds that meet in the end.

Luo et al. 2019, "Adaptive Gradient Methods with Dynamic Bound of Learning Rate", Algorithms 2 and 3::

    g'    = g + weight_decay * p
    m     = beta1 * m + (1 - beta1) * g'
    v     = beta2 * v + (1 - beta2) * g'^2
    w     = v                                                 AMSBound: w = max(w, v)
    rate  = lr * sqrt(1 - beta2^step) / (1 - beta1^step) / (sqrt(w) + eps)
    final = final_lr * lr / lr of the first step
    p     = p - clip(rate, final * (1 - 1 / (gamma * step + 1)), final * (1 + 1 / (gamma * step))) * m

Convention: the authors' code. The paper corrects no bias, has no eps, and divides the clipped rates by sqrt(step); its
bounds are those of section 4 with 1 / gamma = 1 / (1 - beta2). The code follows the schedule in ``final`` too, by the
learning rate that the optimizer was made with; here that is the one of the tensor's first step that is not 0.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, maximum, select

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
AmsState = namedtuple("AmsState", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    ["step_size", "lower", "upper", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "weight_decay"],
)
First = namedtuple("First", ["lr"], defaults=[0.0])


def scalars(step, running, *, lr, betas, final_lr, gamma, eps, weight_decay):
    beta1, beta2 = betas
    running = running if running.lr > 0.0 else First(lr)
    final = final_lr * lr / running.lr if lr > 0.0 else 0.0
    lower = final * (1.0 - 1.0 / (gamma * step + 1.0))
    upper = final * (1.0 + 1.0 / (gamma * step)) if gamma > 0.0 else math.inf
    step_size = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step)
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    return Scalars(step_size, lower, upper, *averages, eps, weight_decay), running


def between(x, h):
    """``x``, no less than the lower bound and no more than the upper; NaN stays one."""
    return select(x < h.lower, h.lower, select(x > h.upper, h.upper, x))


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - between(h.step_size / (math.sqrt(v) + h.eps), h) * m, State(m, v)


def update_ams(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_exp_avg_sq, v)
    return p - between(h.step_size / (math.sqrt(w) + h.eps), h) * m, AmsState(m, v, w)


def reference(p, g, s, step, *, running, lr, betas, final_lr, gamma, eps, weight_decay):
    """Both forms, told apart by the state they keep."""
    beta1, beta2 = betas
    g = decayed_by(g, weight_decay, p)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    new = (m, v) if len(s) == 2 else (m, v, np.maximum(s.max_exp_avg_sq, v))
    final = final_lr * lr / (running.lr or lr) if lr > 0.0 else 0.0
    lower = final * (1.0 - 1.0 / (gamma * step + 1.0))
    upper = final * (1.0 + 1.0 / (gamma * step)) if gamma > 0.0 else math.inf
    rate = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) / (np.sqrt(new[-1]) + eps)
    rate = np.where(rate < p.dtype.type(lower), lower, np.where(rate > p.dtype.type(upper), upper, rate))
    return p - rate.astype(p.dtype) * m, type(s)(*new)


ADABOUND = Rule(
    "adabound",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={
        "betas": FRACTION,
        "final_lr": NOT_NEGATIVE,
        "gamma": FRACTION,
        "eps": NOT_NEGATIVE,
        "weight_decay": NOT_NEGATIVE,
    },
    paper="Luo et al. 2019, Algorithm 2",
    not_negative=("exp_avg_sq",),
    running=First,
)
AMSBOUND = ADABOUND.variant(
    "amsbound",
    State=AmsState,
    update=update_ams,
    paper="Luo et al. 2019, Algorithm 3",
    not_negative=("exp_avg_sq", "max_exp_avg_sq"),
)


def rule_for(*, amsbound, **_):
    """The rule that runs for a group's options."""
    return AMSBOUND if amsbound else ADABOUND
