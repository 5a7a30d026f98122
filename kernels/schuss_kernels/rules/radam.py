"""RAdam: Adam without its second moment until that is known well enough, and then with smaller steps at first.

Liu et al. 2020, "On the Variance of the Adaptive Learning Rate and Beyond", Algorithm 2::

    g'    = g + weight_decay * p                     L2
    p     = p * (1 - lr * weight_decay)              decoupled_weight_decay  (g' = g)
    m     = beta1 * m + (1 - beta1) * g'
    v     = beta2 * v + (1 - beta2) * g'^2
    rho_i = 2 / (1 - beta2) - 1
    rho   = rho_i - 2 * step * beta2^step / (1 - beta2^step)
    r     = sqrt((rho - 4) * (rho - 2) * rho_i / ((rho_i - 4) * (rho_i - 2) * rho))
    p     = p - lr / (1 - beta1^step) * m * r * sqrt(1 - beta2^step) / (sqrt(v) + eps)      rho > 5
    p     = p - lr / (1 - beta1^step) * m                                                   otherwise

Which of the two it is, follows from the step and beta2 alone (with 0.999: the second, for 5 steps).

Conventions. ``torch``: as above; eps = 1e-8 is added to the uncorrected root, as in the authors' code. ``optax``: eps
is added to the corrected root, ``sqrt(v / (1 - beta2^step)) + eps``. ``paper``: rectified from rho > 4 on. Its
Algorithm 2 has no eps; torch's is taken.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, select

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size",
        "rectified",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "correction2",
        "eps",
        "weight_decay",
        "keep",
    ],
)


def rectification(step, beta2, above):
    """r, or 0 as long as rho is not above this."""
    longest = 2.0 / (1.0 - beta2) - 1.0
    rho = longest - 2.0 * step * beta2**step / (1.0 - beta2**step)
    if not rho > above:
        return 0.0
    return math.sqrt((rho - 4.0) * (rho - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * rho))


def _scalars(step, r, corrected, lr, betas, eps, weight_decay, decoupled):
    """The scalars of all conventions; ``corrected``: whether eps is added to the corrected root."""
    beta1, beta2 = betas
    step_size, correction2 = lr / (1.0 - beta1**step), 1.0
    if r > 0.0:
        correction = math.sqrt(1.0 - beta2**step)
        step_size = step_size * r if corrected else step_size * r * correction
        correction2 = 1.0 / correction if corrected else 1.0
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    decay = (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    return Scalars(step_size, 1.0 if r > 0.0 else 0.0, *averages, correction2, eps, *decay)


def scalars(step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 5.0)
    return _scalars(step, r, False, lr, betas, eps, weight_decay, decoupled_weight_decay)


def scalars_optax(step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 5.0)
    return _scalars(step, r, True, lr, betas, eps, weight_decay, decoupled_weight_decay)


def scalars_paper(step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 4.0)
    return _scalars(step, r, False, lr, betas, eps, weight_decay, decoupled_weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    divisor = select(h.rectified > 0.0, math.sqrt(v) * h.correction2 + h.eps, 1.0)
    return p * h.keep - h.step_size * (m / divisor), State(m, v)


def _reference(p, g, s, step, r, corrected, lr, betas, eps, weight_decay, decoupled):
    """All conventions; ``corrected``: whether eps is added to the corrected root."""
    beta1, beta2 = betas
    g = decayed_by(g, 0.0 if decoupled else weight_decay, p)
    p = p * (1.0 - lr * weight_decay if decoupled else 1.0)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    step_size, correction = lr / (1.0 - beta1**step), math.sqrt(1.0 - beta2**step)
    if r == 0.0:
        return p - step_size * m, State(m, v)
    if corrected:
        return p - step_size * r * (m / (np.sqrt(v) * (1.0 / correction) + eps)), State(m, v)
    return p - step_size * r * correction * (m / (np.sqrt(v) + eps)), State(m, v)


def reference(p, g, s, step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 5.0)
    return _reference(p, g, s, step, r, False, lr, betas, eps, weight_decay, decoupled_weight_decay)


def reference_optax(p, g, s, step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 5.0)
    return _reference(p, g, s, step, r, True, lr, betas, eps, weight_decay, decoupled_weight_decay)


def reference_paper(p, g, s, step, *, lr, betas, eps, weight_decay, decoupled_weight_decay):
    r = rectification(step, betas[1], 4.0)
    return _reference(p, g, s, step, r, False, lr, betas, eps, weight_decay, decoupled_weight_decay)


_PAPER = "Liu et al. 2020, Algorithm 2"
RADAM = Rule(
    "radam",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper=f"{_PAPER}, as in torch",
    not_negative=("exp_avg_sq",),
)
RADAM_OPTAX = RADAM.variant(
    "radam_optax", scalars=scalars_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)
RADAM_PAPER = RADAM.variant("radam_paper", scalars=scalars_paper, reference=reference_paper, paper=_PAPER)

CONVENTIONS = Conventions(
    torch=Convention({}, RADAM), optax=Convention({}, RADAM_OPTAX), paper=Convention({}, RADAM_PAPER)
)
