"""StableAdamW: AdamW that takes smaller steps where a tensor's second moments lag behind its gradients.

Wortsman et al. 2023, "Stable and low-precision training for large-scale vision-language models", Algorithm 2::

    b1  = beta1 * (1 - beta1^(step - 1)) / (1 - beta1^step)         b2 likewise: the averages have no bias
    m   = b1 * m + (1 - b1) * g
    v   = b2 * v + (1 - b2) * g^2
    rms = sqrt(mean(g^2 / max(v, eps^2)))                           one number a tensor
    eta = lr / max(1, rms)
    p   = p - eta * weight_decay * p - eta * m / (sqrt(v) + eps)

This is the update clipping of Adafactor (Shazeer & Stern 2018). In code that the authors published the decay keeps the
rate lr; here, as in the paper and in optimi, it is eta.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import maximum

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "eps_sq", "weight_decay", "keep"],
)
Sums = namedtuple("Sums", ["ratios", "count"])
Found = namedtuple("Found", ["lr", "keep"])


def debiased(beta, step):
    """The decay with which an average that starts at zero is that of the gradients so far, whatever the step."""
    return beta * (1.0 - beta ** (step - 1)) / (1.0 - beta**step)


def scalars(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = (debiased(beta, step) for beta in betas)
    return Scalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, eps * eps, weight_decay, 1.0 - lr * weight_decay)


def measure(p, g, s, h):
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return Sums(g * g / maximum(v, h.eps_sq), 1.0)


def finish(h, sums, step):
    lr = h.lr / max(1.0, math.sqrt(sums.ratios / sums.count)) if sums.count > 0.0 else h.lr
    return Found(lr, 1.0 - lr * h.weight_decay)


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.lr * (m / (math.sqrt(v) + h.eps)), State(m, v)


def reference_measure(p, g, s, step, *, betas, eps, **_):
    beta2 = debiased(betas[1], step)
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    return Sums(g * g / np.maximum(v, p.dtype.type(eps * eps)), np.ones_like(p))


def reference(p, g, s, step, *, sums, lr, betas, eps, weight_decay):
    beta1, beta2 = debiased(betas[0], step), debiased(betas[1], step)
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    rms = math.sqrt(sums.ratios / sums.count) if sums.count > 0.0 else 0.0
    eta = lr / max(1.0, rms)
    return p * (1.0 - eta * weight_decay) - eta * (m / (np.sqrt(v) + eps)), State(m, v)


STABLE_ADAMW = Rule(
    "stable_adamw",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Wortsman et al. 2023, Algorithm 2",
    not_negative=("exp_avg_sq",),
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure,
)
