"""AggMo: several momentum buffers with different decays, whose mean is the step.

Lucas et al. 2019, "Aggregated Momentum: Stability Through Passive Damping", equation 4, with three buffers::

    g' = g + weight_decay * p
    b1 = beta1 * b1 + g' ;  b2 = beta2 * b2 + g' ;  b3 = beta3 * b3 + g'
    p  = p - lr / 3 * (b1 + b2 + b3)

The betas are 0, 0.9 and 0.99: 1 - 0.1^k. Convention: the authors' code, as above (the paper's velocity is -b). A first
beta of 0 needs no buffer: b1 is the gradient, and none is kept.
"""

from collections import namedtuple

from ..lang.rule import FRACTION, NOT_NEGATIVE, Rule
from ..lang.scalar_math import decayed, decayed_by

State = namedtuple("State", ["momentum_buffer_2", "momentum_buffer_3"])
AllState = namedtuple("AllState", ["momentum_buffer_1", "momentum_buffer_2", "momentum_buffer_3"])
Scalars = namedtuple("Scalars", ["step_size", "beta1", "beta2", "beta3", "weight_decay"])


def scalars(step, *, lr, betas, weight_decay):
    return Scalars(lr / 3.0, *betas, weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    b2 = h.beta2 * s.momentum_buffer_2 + g
    b3 = h.beta3 * s.momentum_buffer_3 + g
    return p - h.step_size * (g + b2 + b3), State(b2, b3)


def update_all(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    b1 = h.beta1 * s.momentum_buffer_1 + g
    b2 = h.beta2 * s.momentum_buffer_2 + g
    b3 = h.beta3 * s.momentum_buffer_3 + g
    return p - h.step_size * (b1 + b2 + b3), AllState(b1, b2, b3)


def reference(p, g, s, step, *, lr, betas, weight_decay):
    """Both forms, told apart by the buffers they keep."""
    g = decayed_by(g, weight_decay, p)
    buffers = [beta * b + g for beta, b in zip(betas[-len(s) :], s, strict=True)]
    first, second, third = buffers if len(s) == 3 else (g, *buffers)
    return p - lr / 3.0 * (first + second + third), type(s)(*buffers)


AGGMO = Rule(
    "aggmo",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"betas": FRACTION, "weight_decay": NOT_NEGATIVE},
    paper="Lucas et al. 2019, equation 4",
)
AGGMO_ALL = AGGMO.variant("aggmo_all", State=AllState, update=update_all)


def rule_for(*, betas, **_):
    """The rule that runs for a group's options."""
    return AGGMO if isinstance(betas, (tuple, list)) and betas and betas[0] == 0.0 else AGGMO_ALL
