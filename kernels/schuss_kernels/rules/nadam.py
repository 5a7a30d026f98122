"""NAdam: Adam that looks ahead as Nesterov's momentum does, with a momentum that grows.

Dozat 2016, "Incorporating Nesterov Momentum into Adam", Algorithm 2::

    g'    = g + weight_decay * p                     L2
    p     = p * (1 - lr * weight_decay)              decoupled_weight_decay  (g' = g)
    mu_t  = beta1 * (1 - 0.5 * 0.96^(t * momentum_decay))
    P_t   = P_(t-1) * mu_t                           mu_product: a number on the host, 1 at first
    m     = beta1 * m + (1 - beta1) * g'
    v     = beta2 * v + (1 - beta2) * g'^2
    n     = mu_(t+1) * m / (1 - P_t * mu_(t+1)) + (1 - mu_t) * g' / (1 - P_t)
    p     = p - lr * n / (sqrt(v / (1 - beta2^t)) + eps)

Conventions. ``torch``: as above, with momentum_decay = 0.004; it keeps ``mu_product`` in float32 whatever the
parameters are, and so it is here. ``keras``: momentum_decay = 1 (its 0.96^t), eps = 1e-7, lr = 0.001, and the decay
always decoupled. ``optax``: no schedule, mu_t = beta1, so that P_t = beta1^t; no momentum_decay. ``paper``: m is a mean
with the same growing momentum, and the second moment has one more factor::

    m     = mu_t * m + (1 - mu_t) * g'
    p     = p - lr * n / (sqrt(beta2 * v / (1 - beta2^t)) + eps)

The decay is none of the paper's.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Running = namedtuple("Running", ["mu_product"], defaults=[1.0])
Scalars = namedtuple(
    "Scalars",
    [
        "of_mean", "of_gradient", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "correction2", "eps",
        "weight_decay", "keep",
    ],
)  # fmt: skip


def growing(step, beta1, momentum_decay):
    """The momentum of a step and of the next."""
    now, following = (beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    return now, following


def numbers_torch(step, running, betas, momentum_decay):
    """What the conventions differ in: mu of this step and the next, P, the decay of m, the correction of the root."""
    mu, following = growing(step, betas[0], momentum_decay)
    product = float(np.float32(running.mu_product) * np.float32(mu))
    return mu, following, product, betas[0], 1.0 / math.sqrt(1.0 - betas[1] ** step)


def numbers_keras(step, running, betas, momentum_decay):
    mu, following = growing(step, betas[0], momentum_decay)
    return mu, following, running.mu_product * mu, betas[0], 1.0 / math.sqrt(1.0 - betas[1] ** step)


def numbers_optax(step, running, betas, momentum_decay):
    mu = betas[0]
    return mu, mu, running.mu_product * mu, mu, 1.0 / math.sqrt(1.0 - betas[1] ** step)


def numbers_paper(step, running, betas, momentum_decay):
    mu, following = growing(step, betas[0], momentum_decay)
    return mu, following, running.mu_product * mu, mu, math.sqrt(betas[1] / (1.0 - betas[1] ** step))


def update(p, g, s, h):
    g = g + h.weight_decay * p
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    ahead = h.of_mean * m + h.of_gradient * g
    return p * h.keep - ahead / (math.sqrt(v) * h.correction2 + h.eps), State(m, v)


LIMITS = {"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "momentum_decay": NOT_NEGATIVE}


def _rule(name, numbers, paper, always_decoupled=False, eps=1e-8, momentum_decay=4e-3):
    """The rule of a convention: its numbers, its defaults."""

    def scalars(
        step, running, *, lr, betas=(0.9, 0.999), eps=eps, weight_decay=0.0, momentum_decay=momentum_decay,
        decoupled_weight_decay=always_decoupled,
    ):  # fmt: skip
        mu, following, product, beta1, correction2 = numbers(step, running, betas, momentum_decay)
        of_mean, of_gradient = lr * following / (1.0 - product * following), lr * (1.0 - mu) / (1.0 - product)
        decoupled = always_decoupled or decoupled_weight_decay
        coupled, keep = (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
        h = Scalars(
            of_mean, of_gradient, beta1, 1.0 - beta1, betas[1], 1.0 - betas[1], correction2, eps, coupled, keep
        )  # fmt: skip
        return h, Running(product)

    def reference(
        p, g, s, step, *, running, lr, betas=(0.9, 0.999), eps=eps, weight_decay=0.0, momentum_decay=momentum_decay,
        decoupled_weight_decay=always_decoupled,
    ):  # fmt: skip
        mu, following, product, beta1, correction2 = numbers(step, running, betas, momentum_decay)
        decoupled = always_decoupled or decoupled_weight_decay
        g = g + (0.0 if decoupled else weight_decay) * p
        p = p * (1.0 - lr * weight_decay if decoupled else 1.0)
        m = beta1 * s.exp_avg + (1.0 - beta1) * g
        v = betas[1] * s.exp_avg_sq + (1.0 - betas[1]) * (g * g)
        n = (lr * following / (1.0 - product * following)) * m + (lr * (1.0 - mu) / (1.0 - product)) * g
        return p - n / (np.sqrt(v) * correction2 + eps), State(m, v)

    return Rule(
        name, State, Scalars, scalars, update, reference, limits=LIMITS, paper=paper, not_negative=("exp_avg_sq",),
        running=Running,
    )  # fmt: skip


_PAPER = "Dozat 2016, Algorithm 2"
NADAM = _rule("nadam", numbers_torch, f"{_PAPER}, as in torch")
NADAM_KERAS = _rule("nadam_keras", numbers_keras, f"{_PAPER}, as in Keras", True, eps=1e-7, momentum_decay=1.0)
NADAM_OPTAX = _rule("nadam_optax", numbers_optax, f"{_PAPER}, as in Optax", momentum_decay=0.0)
NADAM_PAPER = _rule("nadam_paper", numbers_paper, _PAPER)

_BY_CONVENTION = {"torch": NADAM, "keras": NADAM_KERAS, "optax": NADAM_OPTAX, "paper": NADAM_PAPER}


def select(*, momentum_decay, convention="torch", **_):
    """The rule that runs for a group's options."""
    if convention == "optax" and momentum_decay != 0.0:
        raise ValueError(f"momentum_decay: with convention='optax' mu is beta1; expected 0, got {momentum_decay!r}")
    return _BY_CONVENTION[convention]
