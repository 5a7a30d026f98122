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

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by, maximum

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
AmsgradState = namedtuple("AmsgradState", ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"])
CorrectedState = namedtuple("CorrectedState", ["exp_avg", "exp_avg_sq", "max_corrected_sq"])
Scalars = namedtuple(
    "Scalars",
    ["step_size", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps", "weight_decay", "keep"],
)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    step_size = lr / (1.0 - beta1**step)
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    keep = 1.0 - lr * weight_decay
    return Scalars(step_size, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction2, eps, weight_decay, keep)


def scalars_keras(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr * math.sqrt(1.0 - h.beta2**step) / (1.0 - h.beta1**step), correction2=1.0)


def scalars_adamw_paper(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(keep=1.0 - weight_decay)


def scalars_uncorrected(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr, correction2=1.0)


def scalars_adamw_uncorrected(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(step_size=lr, correction2=1.0, keep=1.0 - weight_decay)


def scalars_optax(step, *, lr, betas, eps, weight_decay):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    return h._replace(correction2=1.0 / (1.0 - h.beta2**step), keep=1.0)


def scalars_adamw_optax(step, *, lr, betas, eps, weight_decay):
    h = scalars_optax(step, lr=lr, betas=betas, eps=eps, weight_decay=0.0)
    return h._replace(keep=1.0 - lr * weight_decay)


def update_adam(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def update_adamw(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), State(m, v)


def update_adam_amsgrad(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_exp_avg_sq, v)
    return p - h.step_size * (m / (math.sqrt(w) * h.correction2 + h.eps)), AmsgradState(m, v, w)


def update_adamw_amsgrad(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_exp_avg_sq, v)
    return p * h.keep - h.step_size * (m / (math.sqrt(w) * h.correction2 + h.eps)), AmsgradState(m, v, w)


def update_amsgrad_optax(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    w = maximum(s.max_corrected_sq, v * h.correction2)
    return p * h.keep - h.step_size * (m / (math.sqrt(w) + h.eps)), CorrectedState(m, v, w)


def _averages(g, s, betas):
    """The new state: the running means, and for AMSGrad the largest second moment."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    return type(s)(m, v) if len(s) == 2 else type(s)(m, v, np.maximum(s.max_exp_avg_sq, v))


def _moments(g, s, step, lr, betas, eps):
    """What torch's forms share: the Adam step and the new state."""
    beta1, beta2 = betas
    s = _averages(g, s, betas)
    denominator = np.sqrt(s[-1]) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return lr / (1.0 - beta1**step) * (s.exp_avg / denominator), s


def reference_adam(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _moments(decayed_by(g, weight_decay, p), s, step, lr, betas, eps)
    return p - move, s


def reference_adamw(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _moments(g, s, step, lr, betas, eps)
    return p * (1.0 - lr * weight_decay) - move, s


def reference_adamw_paper(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _moments(g, s, step, lr, betas, eps)
    return p * (1.0 - weight_decay) - move, s


def reference_keras(p, g, s, step, *, lr, betas, eps, weight_decay):
    s = _averages(g, s, betas)
    alpha = lr * math.sqrt(1.0 - betas[1] ** step) / (1.0 - betas[0] ** step)
    return p * (1.0 - lr * weight_decay) - alpha * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def reference_uncorrected(p, g, s, step, *, lr, betas, eps, weight_decay):
    s = _averages(decayed_by(g, weight_decay, p), s, betas)
    return p - lr * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def reference_adamw_uncorrected(p, g, s, step, *, lr, betas, eps, weight_decay):
    s = _averages(g, s, betas)
    return p * (1.0 - weight_decay) - lr * (s.exp_avg / (np.sqrt(s[-1]) + eps)), s


def _amsgrad_optax(g, s, step, lr, betas, eps):
    """What both forms share that take the maximum of the corrected second moment: the step and the new state."""
    beta1, beta2 = betas
    m, v = _averages(g, State(s.exp_avg, s.exp_avg_sq), betas)
    w = np.maximum(s.max_corrected_sq, v * (1.0 / (1.0 - beta2**step)))
    return lr / (1.0 - beta1**step) * (m / (np.sqrt(w) + eps)), CorrectedState(m, v, w)


def reference_optax(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _amsgrad_optax(decayed_by(g, weight_decay, p), s, step, lr, betas, eps)
    return p - move, s


def reference_adamw_optax(p, g, s, step, *, lr, betas, eps, weight_decay):
    move, s = _amsgrad_optax(g, s, step, lr, betas, eps)
    return p * (1.0 - lr * weight_decay) - move, s


_KINGMA = "Kingma & Ba 2015"
_LOSHCHILOV = "Loshchilov & Hutter 2019, Algorithm 2"
_REDDI = "Reddi, Kale & Kumar 2018, Algorithm 2"

ADAM = Rule(
    "adam",
    State,
    Scalars,
    scalars,
    update_adam,
    reference_adam,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper=f"{_KINGMA}, Algorithm 1",
    not_negative=("exp_avg_sq",),
)
ADAMW = ADAM.variant("adamw", update=update_adamw, reference=reference_adamw, paper=_LOSHCHILOV)
ADAM_AMSGRAD = ADAM.variant(
    "adam_amsgrad",
    State=AmsgradState,
    update=update_adam_amsgrad,
    paper=_REDDI,
    not_negative=("exp_avg_sq", "max_exp_avg_sq"),
)
ADAMW_AMSGRAD = ADAM_AMSGRAD.variant("adamw_amsgrad", update=update_adamw_amsgrad, reference=reference_adamw)

ADAM_KERAS = ADAMW.variant(
    "adam_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_KINGMA}, section 2, as in Keras"
)
ADAM_AMSGRAD_KERAS = ADAMW_AMSGRAD.variant(
    "adam_amsgrad_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_REDDI}, as in Keras"
)
ADAM_AMSGRAD_OPTAX = ADAM.variant(
    "adam_amsgrad_optax",
    State=CorrectedState,
    scalars=scalars_optax,
    update=update_amsgrad_optax,
    reference=reference_optax,
    paper=f"{_REDDI}, as in Optax",
    not_negative=("exp_avg_sq", "max_corrected_sq"),
)
ADAMW_AMSGRAD_OPTAX = ADAM_AMSGRAD_OPTAX.variant(
    "adamw_amsgrad_optax", scalars=scalars_adamw_optax, reference=reference_adamw_optax
)
ADAM_AMSGRAD_PAPER = ADAM_AMSGRAD.variant(
    "adam_amsgrad_paper", scalars=scalars_uncorrected, reference=reference_uncorrected
)
ADAMW_PAPER = ADAMW.variant("adamw_paper", scalars=scalars_adamw_paper, reference=reference_adamw_paper)
ADAMW_AMSGRAD_PAPER = ADAMW_AMSGRAD.variant(
    "adamw_amsgrad_paper",
    scalars=scalars_adamw_uncorrected,
    reference=reference_adamw_uncorrected,
    paper=f"{_LOSHCHILOV}; {_REDDI}",
)

ADAM_CONVENTIONS = Conventions(
    torch=Convention({"eps": 1e-8}, ADAM, {"amsgrad": ADAM_AMSGRAD}),
    keras=Convention({"eps": 1e-7}, ADAM_KERAS, {"amsgrad": ADAM_AMSGRAD_KERAS}),
    optax=Convention({"eps": 1e-8}, ADAM, {"amsgrad": ADAM_AMSGRAD_OPTAX}),
    paper=Convention({"eps": 1e-8}, ADAM, {"amsgrad": ADAM_AMSGRAD_PAPER}),
)
ADAMW_CONVENTIONS = Conventions(
    torch=Convention({"eps": 1e-8, "weight_decay": 1e-2}, ADAMW, {"amsgrad": ADAMW_AMSGRAD}),
    keras=Convention({"eps": 1e-7, "weight_decay": 4e-3}, ADAM_KERAS, {"amsgrad": ADAM_AMSGRAD_KERAS}),
    optax=Convention({"eps": 1e-8, "weight_decay": 1e-4}, ADAMW, {"amsgrad": ADAMW_AMSGRAD_OPTAX}),
    paper=Convention({"eps": 1e-8, "weight_decay": 1e-5}, ADAMW_PAPER, {"amsgrad": ADAMW_AMSGRAD_PAPER}),
)


def rule_for_adam(*, amsgrad, convention, **_):
    """The rule that runs for a group's options."""
    found = ADAM_CONVENTIONS[convention]
    return found.forms["amsgrad"] if amsgrad else found.rule


def rule_for_adamw(*, amsgrad, convention, **_):
    """The rule that runs for a group's options."""
    found = ADAMW_CONVENTIONS[convention]
    return found.forms["amsgrad"] if amsgrad else found.rule
