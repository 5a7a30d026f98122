"""Cautious AdamW and Lion: elements that the optimizer would move against the gradient stay, the others go further.

Liang, Chen, Liu & Liu 2024, "Cautious Optimizers: Improving Training with One Line of Code", Algorithm 1: with the
optimizer's step ``u``::

    mask = 1 where u * g > 0, else 0
    p    = p * (1 - lr * weight_decay) - lr * u * mask / max(mean(mask), 1e-3)         mean over the tensor

AdamW (Loshchilov & Hutter 2019) and Lion (Chen et al. 2023) have::

    m = beta1 * m + (1 - beta1) * g                                                    AdamW
    v = beta2 * v + (1 - beta2) * g^2
    u = sqrt(1 - beta2^step) / (1 - beta1^step) * m / (sqrt(v) + eps)

    u = sign(beta1 * m + (1 - beta1) * g)                                              Lion
    m = beta2 * m + (1 - beta2) * g

Convention: the authors' code. AdamW's eps is added to the root before its bias is corrected, as in Keras's Adam, and
the sign is that of ``m * g``. The paper's Algorithm 2 has Adam's usual eps, ``>=`` in the mask, and the number of
elements over one more than the number of ones in place of ``1 / max(mean(mask), 1e-3)``.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import sign

AdamState = namedtuple("AdamState", ["exp_avg", "exp_avg_sq"])
LionState = namedtuple("LionState", ["exp_avg"])
AdamScalars = namedtuple("AdamScalars", ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "eps", "keep"])
LionScalars = namedtuple("LionScalars", ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "keep"])
Sums = namedtuple("Sums", ["moving", "count"])
Found = namedtuple("Found", ["lr"])

LEAST = 1e-3
"""What the mean of the mask is at least."""


def corrected(lr, betas, step):
    """The learning rate with Adam's bias corrections."""
    return lr * math.sqrt(1.0 - betas[1] ** step) / (1.0 - betas[0] ** step)


def scalars_adamw(step, *, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    return AdamScalars(corrected(lr, betas, step), beta1, 1.0 - beta1, beta2, 1.0 - beta2, eps, 1.0 - lr * weight_decay)


def scalars_lion(step, *, lr, betas, weight_decay):
    beta1, beta2 = betas
    return LionScalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 - lr * weight_decay)


def agrees(u, g):
    """1 where a step goes down the gradient, else 0."""
    return 1.0 if u * g > 0.0 else 0.0


def measure_adamw(p, g, s, h):
    return Sums(agrees(h.beta1 * s.exp_avg + h.one_minus_beta1 * g, g), 1.0)


def measure_lion(p, g, s, h):
    return Sums(agrees(sign(h.beta1 * s.exp_avg + h.one_minus_beta1 * g), g), 1.0)


def rate(lr, sums):
    """The learning rate of the elements that move; lr in a tensor without elements."""
    return lr / max(sums.moving / sums.count, LEAST) if sums.count > 0.0 else lr


def finish(h, sums, step):
    return Found(rate(h.lr, sums))


def update_adamw(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p * h.keep - h.lr * (m * agrees(m, g) / (math.sqrt(v) + h.eps)), AdamState(m, v)


def update_lion(p, g, s, h):
    u = sign(h.beta1 * s.exp_avg + h.one_minus_beta1 * g)
    m = h.beta2 * s.exp_avg + h.one_minus_beta2 * g
    return p * h.keep - h.lr * (u * agrees(u, g)), LionState(m)


def _mask(u, g):
    return (u * g > 0.0).astype(g.dtype)


def reference_measure_adamw(p, g, s, step, *, betas, **_):
    return Sums(_mask(betas[0] * s.exp_avg + (1.0 - betas[0]) * g, g), np.ones_like(p))


def reference_measure_lion(p, g, s, step, *, betas, **_):
    return Sums(_mask(np.sign(betas[0] * s.exp_avg + (1.0 - betas[0]) * g), g), np.ones_like(p))


def _share(sums):
    """The mean of the mask, at least LEAST; 1 in a tensor without elements."""
    return max(sums.moving / sums.count, LEAST) if sums.count > 0.0 else 1.0


def reference_adamw(p, g, s, step, *, sums, lr, betas, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    step_size = lr * math.sqrt(1.0 - beta2**step) / (1.0 - beta1**step) / _share(sums)
    return p * (1.0 - lr * weight_decay) - step_size * (m * _mask(m, g) / (np.sqrt(v) + eps)), AdamState(m, v)


def reference_lion(p, g, s, step, *, sums, lr, betas, weight_decay):
    beta1, beta2 = betas
    u = np.sign(beta1 * s.exp_avg + (1.0 - beta1) * g)
    m = beta2 * s.exp_avg + (1.0 - beta2) * g
    return p * (1.0 - lr * weight_decay) - lr / _share(sums) * (u * _mask(u, g)), LionState(m)


CAUTIOUS_ADAMW = Rule(
    "cautious_adamw",
    AdamState,
    AdamScalars,
    scalars_adamw,
    update_adamw,
    reference_adamw,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Liang, Chen, Liu & Liu 2024, Algorithm 1",
    not_negative=("exp_avg_sq",),
    Sums=Sums,
    measure=measure_adamw,
    finish=finish,
    reference_measure=reference_measure_adamw,
)
CAUTIOUS_LION = CAUTIOUS_ADAMW.variant(
    "cautious_lion",
    State=LionState,
    Scalars=LionScalars,
    scalars=scalars_lion,
    update=update_lion,
    reference=reference_lion,
    limits={"betas": FRACTION, "weight_decay": NOT_NEGATIVE},
    not_negative=(),
    measure=measure_lion,
    reference_measure=reference_measure_lion,
)
