"""Lion and Tiger: steps of one size in the direction of a sign, with one state.

Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", Algorithm 2::

    u   = sign(beta1 * m + (1 - beta1) * g)
    m   = beta2 * m + (1 - beta2) * g
    p   = p * (1 - lr * weight_decay) - lr * u

Tiger (Su 2023, "Tiger: A Tight-fisted Optimizer", kexue.fm/archives/9512) is the same with one beta: the sign is of the
new mean. Its author's code also scales lr by the name and the root mean square of each tensor, halves it and leaves out
the decay for biases: parameter groups can say so here.

Conventions. Paper, Optax and Keras do the same with different defaults: the decay is 0 in the authors' code and in
Keras and 1e-3 in Optax; lr is 1e-4 in the authors' code and 1e-3 in Keras.
"""

from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import signed

State = namedtuple("State", ["exp_avg"])
Scalars = namedtuple("Scalars", ["lr", "beta1", "one_minus_beta1", "beta2", "one_minus_beta2", "keep"])


def scalars(step, *, lr, betas, weight_decay):
    beta1, beta2 = betas
    return Scalars(lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2, 1.0 - lr * weight_decay)


def scalars_tiger(step, *, lr, beta, weight_decay):
    return scalars(step, lr=lr, betas=(beta, beta), weight_decay=weight_decay)


def update(p, g, s, h):
    u = signed(h.lr, h.beta1 * s.exp_avg + h.one_minus_beta1 * g)
    m = h.beta2 * s.exp_avg + h.one_minus_beta2 * g
    return p * h.keep - u, State(m)


def reference(p, g, s, step, *, lr, betas, weight_decay):
    beta1, beta2 = betas
    u = np.sign(beta1 * s.exp_avg + (1.0 - beta1) * g)
    m = beta2 * s.exp_avg + (1.0 - beta2) * g
    return p * (1.0 - lr * weight_decay) - lr * u, State(m)


def reference_tiger(p, g, s, step, *, lr, beta, weight_decay):
    m = beta * s.exp_avg + (1.0 - beta) * g
    return p * (1.0 - lr * weight_decay) - lr * np.sign(m), State(m)


LION = Rule(
    "lion",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "weight_decay": NOT_NEGATIVE},
    paper="Chen et al. 2023, Algorithm 2",
)
TIGER = LION.variant(
    "tiger",
    scalars=scalars_tiger,
    reference=reference_tiger,
    limits={"beta": FRACTION, "weight_decay": NOT_NEGATIVE},
    paper="Su 2023, kexue.fm/archives/9512",
)

CONVENTIONS = Conventions(
    paper=Convention({"lr": 1e-4, "weight_decay": 0.0}, LION),
    keras=Convention({"lr": 1e-3, "weight_decay": 0.0}, LION),
    optax=Convention({"lr": 1e-4, "weight_decay": 1e-3}, LION),
)
