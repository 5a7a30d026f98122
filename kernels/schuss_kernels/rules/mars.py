"""MARS: AdamW or Lion on a gradient that the change since the last one corrects.

Yuan et al. 2024, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", Algorithms 1 to 3::

    c   = g + gamma * beta1 / (1 - beta1) * (g - last_grad)
    c   = c / max(1, ||c||)                                         norm of the tensor
    m   = beta1 * m + (1 - beta1) * c
    v   = beta2 * v + (1 - beta2) * c^2                             AdamW only
    p   = p - lr * (m / (1 - beta1^step) / (sqrt(v / (1 - beta2^step)) + eps) + weight_decay * p)        AdamW
    p   = p - lr * (sign(m) + weight_decay * p)                                                          Lion
    last_grad = g

This is the paper's approximate form, MARS-approx: ``last_grad`` is that of the last step's batch; the exact form takes
a second gradient at the last parameters. In the first step the two are the same, and ``c = g``, as in the paper; the
authors' code starts from a last gradient of zero. It also runs plain AdamW on tensors of one dimension: put those into
a group of another optimizer.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import huge_square, huge_square_of, norm, signed, square, square_of

AdamState = namedtuple("AdamState", ["exp_avg", "exp_avg_sq", "last_grad"])
LionState = namedtuple("LionState", ["exp_avg", "last_grad"])
AdamScalars = namedtuple(
    "AdamScalars",
    [
        "step_size",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "correction2",
        "eps",
        "keep",
        "gain",
        "scale",
    ],
)
LionScalars = namedtuple("LionScalars", ["lr", "beta1", "one_minus_beta1", "keep", "gain", "scale"])
Sums = namedtuple("Sums", ["squares", "huge"])
Found = namedtuple("Found", ["scale"])


def gain(gamma, beta1, step):
    """How much of the gradient's change is added to it; there is no change in the first step."""
    return gamma * beta1 / (1.0 - beta1) if step > 1 else 0.0


def scalars_adamw(step, *, lr, betas, eps, weight_decay, gamma):
    beta1, beta2 = betas
    step_size = lr / (1.0 - beta1**step)
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    return AdamScalars(step_size, *averages, correction2, eps, 1.0 - lr * weight_decay, gain(gamma, beta1, step), 1.0)


def scalars_lion(step, *, lr, beta, weight_decay, gamma):
    return LionScalars(lr, beta, 1.0 - beta, 1.0 - lr * weight_decay, gain(gamma, beta, step), 1.0)


def measure(p, g, s, h):
    c = g + h.gain * (g - s.last_grad)
    return Sums(square(c), huge_square(c))


def finish(h, sums, step):
    size = norm(sums.squares, sums.huge)
    return Found(1.0 / size if size > 1.0 else 1.0)


def update_adamw(p, g, s, h):
    c = (g + h.gain * (g - s.last_grad)) * h.scale
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * c
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (c * c)
    return p * h.keep - h.step_size * (m / (math.sqrt(v) * h.correction2 + h.eps)), AdamState(m, v, g)


def update_lion(p, g, s, h):
    c = (g + h.gain * (g - s.last_grad)) * h.scale
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * c
    return p * h.keep - signed(h.lr, m), LionState(m, g)


def corrected(g, s, step, beta1, gamma):
    """The gradient with its corrected change, before its norm is limited."""
    return g + (gamma * beta1 / (1.0 - beta1) if step > 1 else 0.0) * (g - s.last_grad)


def reference_measure_adamw(p, g, s, step, *, betas, gamma, **_):
    c = corrected(g, s, step, betas[0], gamma)
    return Sums(square_of(c), huge_square_of(c))


def reference_adamw(p, g, s, step, *, sums, lr, betas, eps, weight_decay, gamma):
    beta1, beta2 = betas
    c = corrected(g, s, step, beta1, gamma) * (1.0 / max(1.0, norm(sums.squares, sums.huge)))
    m = beta1 * s.exp_avg + (1.0 - beta1) * c
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (c * c)
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return p * (1.0 - lr * weight_decay) - lr / (1.0 - beta1**step) * (m / denominator), AdamState(m, v, g)


def reference_measure_lion(p, g, s, step, *, beta, gamma, **_):
    c = corrected(g, s, step, beta, gamma)
    return Sums(square_of(c), huge_square_of(c))


def reference_lion(p, g, s, step, *, sums, lr, beta, weight_decay, gamma):
    c = corrected(g, s, step, beta, gamma) * (1.0 / max(1.0, norm(sums.squares, sums.huge)))
    m = beta * s.exp_avg + (1.0 - beta) * c
    return p * (1.0 - lr * weight_decay) - lr * np.sign(m), LionState(m, g)


MARS = Rule(
    "mars",
    AdamState,
    AdamScalars,
    scalars_adamw,
    update_adamw,
    reference_adamw,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "gamma": NOT_NEGATIVE},
    paper="Yuan et al. 2024, Algorithm 2",
    not_negative=("exp_avg_sq",),
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure_adamw,
)
MARS_LION = Rule(
    "mars_lion",
    LionState,
    LionScalars,
    scalars_lion,
    update_lion,
    reference_lion,
    limits={"beta": FRACTION, "weight_decay": NOT_NEGATIVE, "gamma": NOT_NEGATIVE},
    paper="Yuan et al. 2024, Algorithm 3",
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure_lion,
)
