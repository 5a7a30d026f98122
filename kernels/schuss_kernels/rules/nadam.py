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

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["exp_avg", "exp_avg_sq"])
Running = namedtuple("Running", ["mu_product"], defaults=[1.0])
Scalars = namedtuple(
    "Scalars",
    [
        "of_mean",
        "of_gradient",
        "beta1",
        "one_minus_beta1",
        "beta2",
        "one_minus_beta2",
        "correction2",
        "eps",
        "weight_decay",
        "keep",
    ],
)


Momenta = namedtuple("Momenta", ["mu", "following", "product", "beta1", "correction2"])
"""What the conventions differ in: mu of this step and the next, P, the decay of m, the correction of the root."""


def growing(step, beta1, momentum_decay):
    """The momentum of a step and of the next."""
    now, following = (beta1 * (1.0 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    return now, following


def momenta(step, running, betas, momentum_decay):
    mu, following = growing(step, betas[0], momentum_decay)
    product = float(np.float32(running.mu_product) * np.float32(mu))
    return Momenta(mu, following, product, betas[0], 1.0 / math.sqrt(1.0 - betas[1] ** step))


def momenta_keras(step, running, betas, momentum_decay):
    mu, following = growing(step, betas[0], momentum_decay)
    return Momenta(mu, following, running.mu_product * mu, betas[0], 1.0 / math.sqrt(1.0 - betas[1] ** step))


def momenta_optax(step, running, betas):
    mu = betas[0]
    return Momenta(mu, mu, running.mu_product * mu, mu, 1.0 / math.sqrt(1.0 - betas[1] ** step))


def momenta_paper(step, running, betas, momentum_decay):
    mu, following = growing(step, betas[0], momentum_decay)
    return Momenta(mu, following, running.mu_product * mu, mu, math.sqrt(betas[1] / (1.0 - betas[1] ** step)))


def _scalars(of, lr, beta2, eps, weight_decay, decoupled):
    """The scalars from the momenta ``of`` a convention, and P after the step."""
    of_mean = lr * of.following / (1.0 - of.product * of.following)
    of_gradient = lr * (1.0 - of.mu) / (1.0 - of.product)
    averages = of.beta1, 1.0 - of.beta1, beta2, 1.0 - beta2
    decay = (0.0, 1.0 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    return Scalars(of_mean, of_gradient, *averages, of.correction2, eps, *decay), Running(of.product)


def scalars(step, running, *, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta(step, running, betas, momentum_decay)
    return _scalars(of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


def scalars_keras(step, running, *, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_keras(step, running, betas, momentum_decay)
    return _scalars(of, lr, betas[1], eps, weight_decay, True)


def scalars_optax(step, running, *, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_optax(step, running, betas)
    return _scalars(of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


def scalars_paper(step, running, *, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_paper(step, running, betas, momentum_decay)
    return _scalars(of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    m = h.beta1 * s.exp_avg + h.one_minus_beta1 * g
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    ahead = h.of_mean * m + h.of_gradient * g
    return p * h.keep - ahead / (math.sqrt(v) * h.correction2 + h.eps), State(m, v)


def _reference(p, g, s, of, lr, beta2, eps, weight_decay, decoupled):
    """A step with the momenta ``of`` a convention."""
    g = decayed_by(g, 0.0 if decoupled else weight_decay, p)
    p = p * (1.0 - lr * weight_decay if decoupled else 1.0)
    m = of.beta1 * s.exp_avg + (1.0 - of.beta1) * g
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    n = lr * of.following / (1.0 - of.product * of.following) * m + lr * (1.0 - of.mu) / (1.0 - of.product) * g
    return p - n / (np.sqrt(v) * of.correction2 + eps), State(m, v)


def reference(p, g, s, step, *, running, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta(step, running, betas, momentum_decay)
    return _reference(p, g, s, of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


def reference_keras(p, g, s, step, *, running, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_keras(step, running, betas, momentum_decay)
    return _reference(p, g, s, of, lr, betas[1], eps, weight_decay, True)


def reference_optax(p, g, s, step, *, running, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_optax(step, running, betas)
    return _reference(p, g, s, of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


def reference_paper(p, g, s, step, *, running, lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay):
    of = momenta_paper(step, running, betas, momentum_decay)
    return _reference(p, g, s, of, lr, betas[1], eps, weight_decay, decoupled_weight_decay)


_PAPER = "Dozat 2016, Algorithm 2"
NADAM = Rule(
    "nadam",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE, "momentum_decay": NOT_NEGATIVE},
    paper=f"{_PAPER}, as in torch",
    not_negative=("exp_avg_sq",),
    running=Running,
)
NADAM_KERAS = NADAM.variant(
    "nadam_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_PAPER}, as in Keras"
)
NADAM_OPTAX = NADAM.variant(
    "nadam_optax", scalars=scalars_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)
NADAM_PAPER = NADAM.variant("nadam_paper", scalars=scalars_paper, reference=reference_paper, paper=_PAPER)

CONVENTIONS = Conventions(
    torch=Convention({"lr": 2e-3, "eps": 1e-8, "momentum_decay": 4e-3}, NADAM),
    keras=Convention({"lr": 1e-3, "eps": 1e-7, "momentum_decay": 1.0}, NADAM_KERAS),
    optax=Convention({"lr": 2e-3, "eps": 1e-8, "momentum_decay": 0.0}, NADAM_OPTAX),
    paper=Convention({"lr": 2e-3, "eps": 1e-8, "momentum_decay": 4e-3}, NADAM_PAPER),
)


def rule_for(*, momentum_decay, convention, **_):
    """The rule that runs for a group's options."""
    if convention == "optax" and momentum_decay != 0.0:
        raise ValueError(f"momentum_decay: with convention='optax' mu is beta1; expected 0, got {momentum_decay!r}")
    return CONVENTIONS[convention].rule
