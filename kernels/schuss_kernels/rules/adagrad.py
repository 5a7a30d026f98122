"""AdaGrad: a learning rate per element, falling with the squared gradients seen so far.

Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization" (JMLR 12),
Figure 1 with the diagonal matrix::

    g'  = g + weight_decay * p
    sum = sum + g'^2
    p   = p - lr / (1 + (step - 1) * lr_decay) * g' / (sqrt(sum) + eps)

Convention: torch. eps stands outside the root and the accumulator starts at ``initial_accumulator_value`` = 0. The
paper adds its delta outside the root too. Keras and Optax start the accumulator at 0.1 and put eps = 1e-7 *inside* the
root (Optax: where the sum is positive). Neither has ``lr_decay``; torch took it from Lua Torch.
"""

import math
from collections import namedtuple

import numpy as np

from ..rule import NOT_NEGATIVE, Rule

State = namedtuple("State", ["sum"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay", "eps"])


def scalars(step, *, lr, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
    return Scalars(lr / (1.0 + (step - 1) * lr_decay), weight_decay, eps)


def initial(*, initial_accumulator_value=0.0):
    return State(initial_accumulator_value)


def update(p, g, s, h):
    g = g + h.weight_decay * p
    total = s.sum + g * g
    return p - h.lr * (g / (math.sqrt(total) + h.eps)), State(total)


def reference(p, g, s, step, *, lr, lr_decay=0.0, weight_decay=0.0, eps=1e-10):
    g = g + weight_decay * p
    total = s.sum + g * g
    return p - lr / (1.0 + (step - 1) * lr_decay) * (g / (np.sqrt(total) + eps)), State(total)


LIMITS = dict.fromkeys(("lr_decay", "weight_decay", "eps", "initial_accumulator_value"), NOT_NEGATIVE)

ADAGRAD = Rule(
    "adagrad", State, Scalars, scalars, update, reference, initial, LIMITS, "Duchi, Hazan & Singer 2011, Figure 1"
)
