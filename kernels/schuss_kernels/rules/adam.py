"""Adam and AdamW, each with and without AMSGrad.

Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 1; Loshchilov & Hutter 2019, "Decoupled Weight
Decay Regularization", Algorithm 2; Reddi, Kale & Kumar 2018, "On the Convergence of Adam and Beyond", Algorithm 2::

    g'  = g + weight_decay * p                       Adam   (L2)
    p   = p * (1 - lr * weight_decay)                AdamW  (decoupled; g' = g)
    m   = beta1 * m + (1 - beta1) * g'
    v   = beta2 * v + (1 - beta2) * g'^2
    w   = v                                          AMSGrad: w = max(w, v)
    p   = p - lr / (1 - beta1^step) * m / (sqrt(w) / sqrt(1 - beta2^step) + eps)

Convention: torch, which is the paper's Algorithm 1: eps = 1e-8 outside the root and added *after* the bias correction.
Keras uses the form at the end of the paper's section 2 (bias correction folded into lr, eps = 1e-7 added to the
uncorrected root, so its eps is larger by 1/sqrt(1 - beta2^step)); AMSGrad there takes the maximum of the uncorrected v
as here. Optax equals torch (with ``eps_root`` = 0), but its ``amsgrad`` takes the maximum of the corrected v. AdamW's
decay is multiplied by lr in torch, Optax and Keras; in the paper only by the schedule multiplier. The first step moves
every element by about lr, whatever the gradient's size.
"""

import math
from collections import namedtuple

import numpy as np

from ..rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
AmsgradState = namedtuple("AmsgradState", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    ["step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps", "weight_decay", "keep"],
)


def scalars(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    beta1, beta2 = betas
    step_size = lr / (1.0 - beta1**step)
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    keep = 1.0 - lr * weight_decay
    return Scalars(step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, eps, weight_decay, keep)


def scalars_adamw(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    return scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)


def update_adam(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def update_adamw(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def larger(a, b):
    """The larger of two; NaN where either is, as ``numpy.maximum``."""
    return a if a >= b else (b if b == b and a == a else a + b)


def update_adam_amsgrad(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = larger(s.max_exp_avg_sq, v)
    return p - h.step_size * (m / (math.sqrt(w) * h.correction2 + h.eps)), AmsgradState(m, v, w)


def update_adamw_amsgrad(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = larger(s.max_exp_avg_sq, v)
    return p * h.keep - h.step_size * (m / (math.sqrt(w) * h.correction2 + h.eps)), AmsgradState(m, v, w)


def _moments(p, g, s, step, *, lr, betas, eps):
    """What every form shares: the new state and the Adam step."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    state = (m, v) if len(s) == 2 else (m, v, np.maximum(s.max_exp_avg_sq, v))
    denominator = np.sqrt(state[-1]) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return lr / (1.0 - beta1**step) * (m / denominator), type(s)(*state)


def reference_adam(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    move, s = _moments(p, g + weight_decay * p, s, step, lr=lr, betas=betas, eps=eps)
    return p - move, s


def reference_adamw(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    move, s = _moments(p, g, s, step, lr=lr, betas=betas, eps=eps)
    return p * (1.0 - lr * weight_decay) - move, s


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}


def _rule(name, state, scalars, update, reference, paper):
    return Rule(name, state, Scalars, scalars, update, reference, limits=LIMITS, paper=paper)


_AMSGRAD = "Reddi, Kale & Kumar 2018, Algorithm 2"
ADAM = _rule("adam", State, scalars, update_adam, reference_adam, "Kingma & Ba 2015, Algorithm 1")
ADAMW = _rule("adamw", State, scalars_adamw, update_adamw, reference_adamw, "Loshchilov & Hutter 2019, Algorithm 2")
ADAM_AMSGRAD = _rule("adam_amsgrad", AmsgradState, scalars, update_adam_amsgrad, reference_adam, _AMSGRAD)
ADAMW_AMSGRAD = _rule("adamw_amsgrad", AmsgradState, scalars_adamw, update_adamw_amsgrad, reference_adamw, _AMSGRAD)


def select_adam(*, amsgrad, **_):
    """The rule that runs for a group's options."""
    return ADAM_AMSGRAD if amsgrad else ADAM


def select_adamw(*, amsgrad, **_):
    """The rule that runs for a group's options."""
    return ADAMW_AMSGRAD if amsgrad else ADAMW
