"""Adam and AdamW, each with and without AMSGrad.

Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization", Algorithm 1; Loshchilov & Hutter 2019, "Decoupled Weight
Decay Regularization", Algorithm 2; Reddi, Kale & Kumar 2018, "On the Convergence of Adam and Beyond", Algorithm 2::

    g'  = g + weight_decay * p                       Adam   (L2)
    p   = p * (1 - lr * weight_decay)                AdamW  (decoupled; g' = g)
    m   = beta1 * m + (1 - beta1) * g'
    v   = beta2 * v + (1 - beta2) * g'^2
    w   = v                                          AMSGrad: w = max(w, v)
    p   = p - lr / (1 - beta1^step) * m / (sqrt(w) / sqrt(1 - beta2^step) + eps)

The first step moves every element by about lr, whatever the gradient's size.

Conventions. ``torch``: as above, which is Kingma & Ba's Algorithm 1: eps = 1e-8 outside the root and added *after* the
bias correction. ``optax``: the same (its ``eps_root`` is 0), but its ``amsgrad`` takes the maximum of the *corrected*
``v / (1 - beta2^step)``. ``keras``: the form at the end of the paper's section 2, the correction folded into lr, eps =
1e-7 added to the uncorrected root (so it is larger by 1/sqrt(1 - beta2^step)), and the decay decoupled in Adam too::

    p   = p * (1 - lr * weight_decay) - lr * sqrt(1 - beta2^step) / (1 - beta1^step) * m / (sqrt(w) + eps)

``paper``: Adam's is torch's. AdamW's decay is multiplied by lr in torch, Optax and Keras; in the paper's Algorithm 2 by
the schedule's multiplier alone, which is 1 here: ``p * (1 - weight_decay)``. AMSGrad's Algorithm 2 corrects no bias::

    p   = p - lr * m / (sqrt(w) + eps)

These other places are other numbers for the same arithmetic, except for Optax's maximum.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import larger

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
AmsgradState = namedtuple("AmsgradState", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
CorrectedState = namedtuple("CorrectedState", ["exp_avg", "exp_avg_sq", "max_corrected_sq"])
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


def scalars_keras(step, *, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr * math.sqrt(1.0 - h.beta2**step) / (1.0 - h.beta1**step), correction2=1.0)


def scalars_adamw_paper(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-5):
    return scalars(step, lr=lr, betas=betas, eps=eps)._replace(keep=1.0 - weight_decay)


def scalars_uncorrected(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr, correction2=1.0)


def scalars_adamw_uncorrected(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-5):
    return scalars_uncorrected(step, lr=lr, betas=betas, eps=eps)._replace(keep=1.0 - weight_decay)


def scalars_optax(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(correction2=1.0 / (1.0 - h.beta2**step), keep=1.0)


def scalars_adamw_optax(step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
    h = scalars_optax(step, lr=lr, betas=betas, eps=eps)
    return h._replace(keep=1.0 - lr * weight_decay)


def update_adam(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def update_adamw(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


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


def update_amsgrad_optax(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = larger(s.max_corrected_sq, v * h.correction2)
    return p * h.keep - h.step_size * (m / (math.sqrt(w) + h.eps)), CorrectedState(m, v, w)


def _averages(g, s, betas):
    """The new state: the running means, and for AMSGrad the largest second moment."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    return type(s)(m, v) if len(s) == 2 else type(s)(m, v, np.maximum(s.max_exp_avg_sq, v))


def _moments(p, g, s, step, *, lr, betas, eps):
    """What torch's forms share: the new state and the Adam step."""
    beta1, beta2 = betas
    s = _averages(g, s, betas)
    denominator = np.sqrt(s[-1]) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return lr / (1.0 - beta1**step) * (s.exp_avg / denominator), s


def reference_adam(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    move, s = _moments(p, g + weight_decay * p, s, step, lr=lr, betas=betas, eps=eps)
    return p - move, s


def reference_adamw(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    move, s = _moments(p, g, s, step, lr=lr, betas=betas, eps=eps)
    return p * (1.0 - lr * weight_decay) - move, s


def reference_adamw_paper(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-5):
    move, s = _moments(p, g, s, step, lr=lr, betas=betas, eps=eps)
    return p * (1.0 - weight_decay) - move, s


def reference_keras(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-7, weight_decay=0.0):
    s = _averages(g, s, betas)
    alpha = lr * math.sqrt(1.0 - betas[1] ** step) / (1.0 - betas[0] ** step)
    return p * (1.0 - lr * weight_decay) - alpha * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def reference_uncorrected(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    s = _averages(g + weight_decay * p, s, betas)
    return p - lr * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def reference_adamw_uncorrected(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-5):
    s = _averages(g, s, betas)
    return p * (1.0 - weight_decay) - lr * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def _amsgrad_optax(p, g, s, step, *, lr, betas, eps, coupled=0.0, decoupled=0.0):
    """Both forms that take the maximum of the corrected second moment."""
    beta1, beta2 = betas
    m, v = _averages(g + coupled * p, State(s.exp_avg, s.exp_avg_sq), betas)
    w = np.maximum(s.max_corrected_sq, v * (1.0 / (1.0 - beta2**step)))
    move = lr / (1.0 - beta1**step) * (m / (np.sqrt(w) + eps))
    return p * (1.0 - lr * decoupled) - move, CorrectedState(m, v, w)


def reference_optax(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    return _amsgrad_optax(p, g, s, step, lr=lr, betas=betas, eps=eps, coupled=weight_decay)


def reference_adamw_optax(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-4):
    return _amsgrad_optax(p, g, s, step, lr=lr, betas=betas, eps=eps, decoupled=weight_decay)


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}


def _rule(name, state, scalars, update, reference, paper):
    squares = tuple(field for field in state._fields if field.endswith("_sq"))
    return Rule(
        name, state, Scalars, scalars, update, reference, limits=LIMITS, paper=paper, not_negative=squares
    )  # fmt: skip


_AMSGRAD = "Reddi, Kale & Kumar 2018, Algorithm 2"
ADAM = _rule("adam", State, scalars, update_adam, reference_adam, "Kingma & Ba 2015, Algorithm 1")
ADAMW = _rule("adamw", State, scalars_adamw, update_adamw, reference_adamw, "Loshchilov & Hutter 2019, Algorithm 2")
ADAM_AMSGRAD = _rule("adam_amsgrad", AmsgradState, scalars, update_adam_amsgrad, reference_adam, _AMSGRAD)
ADAMW_AMSGRAD = _rule("adamw_amsgrad", AmsgradState, scalars_adamw, update_adamw_amsgrad, reference_adamw, _AMSGRAD)

ADAM_KERAS = _rule(
    "adam_keras", State, scalars_keras, update_adamw, reference_keras, "Kingma & Ba 2015, section 2, as in Keras"
)  # fmt: skip
ADAM_AMSGRAD_KERAS = _rule(
    "adam_amsgrad_keras", AmsgradState, scalars_keras, update_adamw_amsgrad, reference_keras, f"{_AMSGRAD}, as in Keras"
)  # fmt: skip
ADAM_AMSGRAD_OPTAX = _rule(
    "adam_amsgrad_optax", CorrectedState, scalars_optax, update_amsgrad_optax, reference_optax,
    f"{_AMSGRAD}, as in Optax",
)  # fmt: skip
ADAMW_AMSGRAD_OPTAX = _rule(
    "adamw_amsgrad_optax", CorrectedState, scalars_adamw_optax, update_amsgrad_optax, reference_adamw_optax,
    f"{_AMSGRAD}, as in Optax",
)  # fmt: skip
ADAM_AMSGRAD_PAPER = _rule(
    "adam_amsgrad_paper", AmsgradState, scalars_uncorrected, update_adam_amsgrad, reference_uncorrected, _AMSGRAD
)  # fmt: skip
ADAMW_PAPER = _rule(
    "adamw_paper", State, scalars_adamw_paper, update_adamw, reference_adamw_paper,
    "Loshchilov & Hutter 2019, Algorithm 2",
)  # fmt: skip
ADAMW_AMSGRAD_PAPER = _rule(
    "adamw_amsgrad_paper", AmsgradState, scalars_adamw_uncorrected, update_adamw_amsgrad, reference_adamw_uncorrected,
    f"Loshchilov & Hutter 2019, Algorithm 2; {_AMSGRAD}",
)  # fmt: skip


def select_adam(*, amsgrad, convention="torch", **_):
    """The rule that runs for a group's options."""
    if convention == "keras":
        return ADAM_AMSGRAD_KERAS if amsgrad else ADAM_KERAS
    if not amsgrad:
        return ADAM
    return {"torch": ADAM_AMSGRAD, "optax": ADAM_AMSGRAD_OPTAX, "paper": ADAM_AMSGRAD_PAPER}[convention]


def select_adamw(*, amsgrad, convention="torch", **_):
    """The rule that runs for a group's options."""
    if convention == "keras":
        return ADAM_AMSGRAD_KERAS if amsgrad else ADAM_KERAS
    if not amsgrad:
        return ADAMW_PAPER if convention == "paper" else ADAMW
    return {"torch": ADAMW_AMSGRAD, "optax": ADAMW_AMSGRAD_OPTAX, "paper": ADAMW_AMSGRAD_PAPER}[convention]
