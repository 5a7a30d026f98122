"""COCOB: no learning rate, but bets on every coordinate with the money won so far.

Orabona & Tommasi 2017, "Training Deep Networks without Learning Rates Through Coin Betting", Algorithm 2::

    c      = lr * (g + weight_decay * p)
    L      = max(L, |c|)                              the largest gradient, at first eps
    G      = G + |c|
    reward = max(reward - c * (p - x0), 0)            x0: the parameter as it was at first
    theta  = theta - c
    p      = x0 + theta / (L * max(G + L, alpha * L)) * (L + reward)

Convention: Optax's, which is the paper's algorithm: ``lr`` is 1 and scales the gradient, not the step. An element whose
L is 0 (no eps, no gradient so far) stays.
"""

from collections import namedtuple

import numpy as np

from ..lang.rule import NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import decayed, decayed_by, difference, difference_of, maximum, select

State = namedtuple("State", ["scale", "subgradients", "reward", "cumulative_gradients", "x0"])
Scalars = namedtuple("Scalars", ["lr", "alpha", "weight_decay"])


def scalars(step, *, lr, alpha, weight_decay):
    return Scalars(lr, alpha, weight_decay)


def initial(*, eps):
    return State(eps, 0.0, 0.0, 0.0, PARAMETER)


def update(p, g, s, h):
    c = h.lr * decayed(g, h.weight_decay, p)
    scale = maximum(s.scale, abs(c))
    sums = s.subgradients + abs(c)
    reward = s.reward - c * difference(p, s.x0)
    reward = select(reward < 0.0, 0.0, reward)
    theta = s.cumulative_gradients - c
    below = scale * maximum(sums + scale, h.alpha * scale)
    p = s.x0 + select(below == 0.0, 0.0, theta / below) * (scale + reward)
    return p, State(scale, sums, reward, theta, s.x0)


def reference(p, g, s, step, *, lr, alpha, weight_decay):
    c = lr * decayed_by(g, weight_decay, p)
    scale = np.maximum(s.scale, np.abs(c))
    sums = s.subgradients + np.abs(c)
    reward = s.reward - c * difference_of(p, s.x0)
    reward = np.where(reward < 0.0, 0.0, reward).astype(p.dtype)
    theta = s.cumulative_gradients - c
    below = scale * np.maximum(sums + scale, alpha * scale)
    share = np.where(below == 0.0, 0.0, theta / below).astype(p.dtype)
    return s.x0 + share * (scale + reward), State(scale, sums, reward, theta, s.x0)


COCOB = Rule(
    "cocob",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={"alpha": NOT_NEGATIVE, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Orabona & Tommasi 2017, Algorithm 2",
    not_negative=("scale", "subgradients", "reward"),
)
