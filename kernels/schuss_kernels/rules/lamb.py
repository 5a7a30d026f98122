"""LAMB: Adam whose step has, tensor by tensor, the size of the weights.

You et al. 2020, "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", Algorithm 2::

    m   = beta1 * m + (1 - beta1) * g
    v   = beta2 * v + (1 - beta2) * g^2
    u   = (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps) + weight_decay * p
    p   = p - lr * trust * u                    trust = phi(||p||) / ||u||, one number a tensor

Convention: the paper's Algorithm 2 with phi the identity; where a norm is zero the trust is 1, as in the authors' code
and in Optax. The rule ``lamb_clipped`` lets the trust be at most 1.
"""

import math
from collections import namedtuple

import numpy as np

from ..rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Scalars = namedtuple(
    "Scalars",
    ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction1", "correction2", "eps", "weight_decay"],
)
Sums = namedtuple("Sums", ["weights", "moves"])


def scalars(step, *, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    beta1, beta2 = betas
    correction1, correction2 = 1.0 / (1.0 - beta1**step), 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, correction1, correction2, eps, weight_decay)


def direction(p, m, v, h):
    """The step of Adam with the decay, before it is scaled."""
    return m * h.correction1 / (math.sqrt(v) * h.correction2 + h.eps) + h.weight_decay * p


def measure(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = direction(p, m, v, h)
    return Sums(p * p, u * u)


def trust(sums):
    """The ratio of the norms; 1 where one of them is zero."""
    return math.sqrt(sums.weights) / math.sqrt(sums.moves) if sums.weights > 0.0 and sums.moves > 0.0 else 1.0


def finish(h, sums, step):
    return h._replace(lr=h.lr * trust(sums))


def finish_clipped(h, sums, step):
    return h._replace(lr=h.lr * min(1.0, trust(sums)))


def update(p, g, s, h):
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    return p - h.lr * direction(p, m, v, h), State(m, v)


def _move(p, g, s, step, betas, eps, weight_decay):
    beta1, beta2 = betas
    m = beta1 * s.exp_avg + (1.0 - beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    denominator = np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps
    return m * (1.0 / (1.0 - beta1**step)) / denominator + weight_decay * p, State(m, v)


def reference_measure(p, g, s, step, *, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    u, _ = _move(p, g, s, step, betas, eps, weight_decay)
    return Sums(p * p, u * u)


def reference(p, g, s, step, *, sums, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    u, s = _move(p, g, s, step, betas, eps, weight_decay)
    return p - (lr * trust(sums)) * u, s


def reference_clipped(p, g, s, step, *, sums, lr, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.0):
    u, s = _move(p, g, s, step, betas, eps, weight_decay)
    return p - (lr * min(1.0, trust(sums))) * u, s


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE}


def _rule(name, finish, reference):
    return Rule(
        name, State, Scalars, scalars, update, reference, limits=LIMITS, paper="You et al. 2020, Algorithm 2",
        not_negative=("exp_avg_sq",), Sums=Sums, measure=measure, finish=finish, reference_measure=reference_measure,
    )  # fmt: skip


LAMB = _rule("lamb", finish, reference)
LAMB_CLIPPED = _rule("lamb_clipped", finish_clipped, reference_clipped)


def select(*, clip, **_):
    """The rule that runs for a group's options."""
    return LAMB_CLIPPED if clip else LAMB
