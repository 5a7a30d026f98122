"""LAMB: Adam whose step has, tensor by tensor, the size of the weights.

You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", Algorithm 2::

    m   = beta1 * m + (1 - beta1) * g
    v   = beta2 * v + (1 - beta2) * g^2
    u   = (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps) + weight_decay * p
    p   = p - lr * trust * u                    trust = phi(||p||) / ||u||, one number a tensor

Here phi is the identity; where a norm is zero the trust is 1, as in the authors' code, Optax and Keras. With ``clip``
the trust is at most 1; without ``always_adapt`` it is 1 where there is no weight decay, which is how NVIDIA's and
timm's code leave biases and normalizations alone.

Conventions. ``paper`` and ``optax``: as above, eps = 1e-6. ``keras``: eps = 1e-7 and another decay, which comes before
all else, so that the trust is that of the decayed weights: ``p = p * (1 - lr * weight_decay)``, and none in ``u``.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import INFINITE, decayed, decayed_by

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    [
        "lr",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "correction1",
        "correction2",
        "eps",
        "weight_decay",
        "keep",
        "least",
        "most",
    ],
)
Sums = namedtuple("Sums", ["weights", "moves"])
Found = namedtuple("Found", ["lr"])


def limits_of_trust(weight_decay, clip, always_adapt):
    """Between what the trust stays."""
    if weight_decay == 0.0 and not always_adapt:
        return 1.0, 1.0
    return 0.0, 1.0 if clip else math.inf


def scalars(step, *, lr, betas, eps, weight_decay, clip, always_adapt):
    beta1, beta2 = betas
    correction1, correction2 = 1.0 / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    least, most = limits_of_trust(weight_decay, clip, always_adapt)
    averages = beta1, 1.0 - beta1, beta2, 1.0 - beta2
    return Scalars(lr, *averages, correction1, correction2, eps, weight_decay, 1.0, least, most)


def scalars_keras(step, *, lr, betas, eps, weight_decay, clip, always_adapt):
    h = scalars(step, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, clip=clip, always_adapt=always_adapt)
    return h._replace(weight_decay=0.0, keep=1.0 - lr * weight_decay)


def direction(p, m, v, h):
    """The step of Adam with the decay, before it is scaled."""
    return decayed(m * h.correction1 / (math.sqrt(v) * h.correction2 + h.eps), h.weight_decay, p)


def measure(p, g, s, h):
    p = p * h.keep
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = direction(p, m, v, h)
    return Sums(p * p, u * u)


def trust(sums, least, most):
    """The ratio of the norms within its limits; 1 where one of the norms is zero, or that of the weights infinite."""
    if not (0.0 < sums.weights < INFINITE and sums.moves > 0.0):
        return 1.0
    return max(least, min(most, math.sqrt(sums.weights) / math.sqrt(sums.moves)))


def finish(h, sums, step):
    return Found(h.lr * trust(sums, h.least, h.most))


def update(p, g, s, h):
    p = p * h.keep
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.lr * direction(p, m, v, h), State(m, v)


def _move(p, g, s, step, betas, eps, weight_decay):
    """The step before it is scaled, and the new state."""
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return decayed_by(m * (1.0 / (1.0 - beta1**step)) / denominator, weight_decay, p), State(m, v)


def reference_measure(p, g, s, step, *, betas, eps, weight_decay, **_):
    u, _ = _move(p, g, s, step, betas, eps, weight_decay)
    return Sums(p * p, u * u)


def reference_measure_keras(p, g, s, step, *, lr, betas, eps, weight_decay, **_):
    p = p * (1.0 - lr * weight_decay)
    u, _ = _move(p, g, s, step, betas, eps, 0.0)
    return Sums(p * p, u * u)


def _trust(sums, weight_decay, clip, always_adapt):
    """The ratio of the norms within its limits; 1 where one of the norms is zero, or that of the weights infinite."""
    weights, move = math.sqrt(sums.weights), math.sqrt(sums.moves)
    if not (0.0 < weights < math.inf and move > 0.0) or (weight_decay == 0.0 and not always_adapt):
        return 1.0
    return min(1.0 if clip else math.inf, weights / move)


def reference(p, g, s, step, *, sums, lr, betas, eps, weight_decay, clip, always_adapt):
    u, s = _move(p, g, s, step, betas, eps, weight_decay)
    return p - (lr * _trust(sums, weight_decay, clip, always_adapt)) * u, s


def reference_keras(p, g, s, step, *, sums, lr, betas, eps, weight_decay, clip, always_adapt):
    p = p * (1.0 - lr * weight_decay)
    u, s = _move(p, g, s, step, betas, eps, 0.0)
    return p - (lr * _trust(sums, weight_decay, clip, always_adapt)) * u, s


_PAPER = "You et al. 2020, Algorithm 2"

LAMB = Rule(
    "lamb",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper=_PAPER,
    not_negative=("exp_avg_sq",),
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure,
)
LAMB_KERAS = LAMB.variant(
    "lamb_keras",
    scalars=scalars_keras,
    reference=reference_keras,
    reference_measure=reference_measure_keras,
    paper=f"{_PAPER}, as in Keras",
)

CONVENTIONS = Conventions(
    paper=Convention({"eps": 1e-6}, LAMB),
    optax=Convention({"eps": 1e-6}, LAMB),
    keras=Convention({"eps": 1e-7}, LAMB_KERAS),
)
