"""ASGD: descent with a falling learning rate, and the average of the parameters beside it.

Polyak & Juditsky 1992, "Acceleration of Stochastic Approximation by Averaging"; the rates are those of Bottou 2010,
"Large-Scale Machine Learning with Stochastic Gradient Descent", section 5, and Xu 2011::

    g'  = g + weight_decay * p
    p   = p * (1 - lambd * eta) - eta * g'
    ax  = ax + mu * (p - ax)                         mu = 1: ax = p
    eta = lr / (1 + lambd * lr * step)^alpha         for the next step; lr at first
    mu  = 1 / max(1, step - t0)                      for the next step; 1 at first

Until step t0 + 2 the average is the parameter itself, and then the mean of those from that step on. Convention:
torch's, the only framework that has it. It keeps eta and mu, numbers on the host, in float32 whatever the parameters
are, and so it is here.
"""

from collections import namedtuple

import numpy as np

from ..lang.rule import NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import decayed, decayed_by, difference, difference_of, select

State = namedtuple("State", ["ax"])
Running = namedtuple("Running", ["eta", "mu"], defaults=[0.0, 1.0])
Scalars = namedtuple("Scalars", ["eta", "mu", "weight_decay", "keep"])


def in_float32(value):
    return float(np.float32(value))


def scalars(step, running, *, lr, lambd, alpha, t0, weight_decay):
    eta = in_float32(lr) if step == 1 else running.eta
    after = Running(in_float32(lr / (1.0 + lambd * lr * step) ** alpha), in_float32(1.0 / max(1.0, step - t0)))
    return Scalars(eta, running.mu, weight_decay, 1.0 - lambd * eta), after


def initial():
    return State(PARAMETER)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    p = p * h.keep - h.eta * g
    return p, State(select(h.mu == 1.0, p, s.ax + h.mu * difference(p, s.ax)))


def reference(p, g, s, step, *, running, lr, lambd, alpha, t0, weight_decay):
    g = decayed_by(g, weight_decay, p)
    eta = in_float32(lr) if step == 1 else running.eta
    p = p * (1.0 - lambd * eta) - eta * g
    return p, State(p if running.mu == 1.0 else s.ax + running.mu * difference_of(p, s.ax))


ASGD = Rule(
    "asgd",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={"lambd": NOT_NEGATIVE, "alpha": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Polyak & Juditsky 1992; Bottou 2010, section 5",
    running=Running,
)
