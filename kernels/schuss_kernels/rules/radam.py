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

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import pick

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    [
        "step_size", "rectified", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps",
        "weight_decay", "keep",
    ],
)  # fmt: skip


def rectification(step, beta2, above):
    """r, or 0 as long as rho is not above this."""
    longest = 2.0 / (1.0 - beta2) - 1.0
    rho = longest - 2.0 * step * beta2**step / (1.0 - beta2**step)
    if not rho > above:
        return 0.0
    return math.sqrt((rho - 4.0) * (rho - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * rho))


def update(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    divisor = pick(h.rectified > 0.0, math.sqrt(v) * h.correction2 + h.eps, 1.0)
    return p * h.keep - h.step_size * (m / divisor), State(m, v)


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}


def _rule(name, paper, above=5.0, corrected=False):
    """The rule of a convention: rectified above this rho; eps added to the corrected root, or to the other."""

    def sizes(step, lr, betas):
        """r, the step size with it, and what corrects the root."""
        beta1, beta2 = betas
        r, correction = rectification(step, beta2, above), math.sqrt(1.0 - beta2**step)
        size = lr / (1.0 - beta1**step)
        if r == 0.0:
            return r, size, 1.0
        return (r, size * r, 1.0 / correction) if corrected else (r, size * r * correction, 1.0)

    def scalars(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False):
        beta1, beta2 = betas
        r, size, correction2 = sizes(step, lr, betas)
        coupled, keep = (0.0, 1.0 - lr * weight_decay) if decoupled_weight_decay else (weight_decay, 1.0)
        rectified = 1.0 if r > 0.0 else 0.0
        return Scalars(
            size, rectified, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, eps, coupled, keep
        )  # fmt: skip

    def reference(
        p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, decoupled_weight_decay=False
    ):  # fmt: skip
        beta1, beta2 = betas
        r, size, correction2 = sizes(step, lr, betas)
        g = g + (0.0 if decoupled_weight_decay else weight_decay) * p
        p = p * (1.0 - lr * weight_decay if decoupled_weight_decay else 1.0)
        m = beta1 * s.exp_avg + (1.0 - beta1) * g
        v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
        move = m / (np.sqrt(v) * correction2 + eps) if r > 0.0 else m
        return p - size * move, State(m, v)

    return Rule(
        name, State, Scalars, scalars, update, reference, limits=LIMITS, paper=paper, not_negative=("exp_avg_sq",)
    )  # fmt: skip


_PAPER = "Liu et al. 2020, Algorithm 2"
RADAM = _rule("radam", f"{_PAPER}, as in torch")
RADAM_OPTAX = _rule("radam_optax", f"{_PAPER}, as in Optax", corrected=True)
RADAM_PAPER = _rule("radam_paper", _PAPER, above=4.0)

_BY_CONVENTION = {"torch": RADAM, "optax": RADAM_OPTAX, "paper": RADAM_PAPER}


def select(*, convention="torch", **_):
    """The rule that runs for a group's options."""
    return _BY_CONVENTION[convention]
