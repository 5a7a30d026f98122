"""MADGRAD: dual averaging under the cube root of summed squares, with momentum.

Defazio & Jelassi 2021, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient Method for
Stochastic Optimization", Algorithm 1::

    g'     = g + weight_decay * p
    lambda = (lr + eps) * sqrt(step)
    s      = s + lambda * g'
    v      = v + lambda * g'^2
    z      = x0 - s / (cbrt(v) + eps)                x0: the parameter as it was at first
    p      = momentum * p + (1 - momentum) * z

Convention: the authors' code, which Optax follows: eps is added to lr too, unless lr is 0 (Optax: also then), so that
lambda is never tiny; the paper adds none. Without momentum the code does not keep ``x0`` but gets it back from ``p + s
/ (cbrt(v) + eps)``, which costs a second root and division; here it is always kept. Dividing by a sum that is zero (eps
= 0, no gradient so far) the code takes the quotient as 0, and so does this.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.rule import FRACTION, NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import cube_root, decayed, decayed_by, on_arrays, select

State = namedtuple("State", ["grad_sum_sq", "grad_sum", "x0"])
Scalars = namedtuple("Scalars", ["step_size", "momentum", "one_minus_momentum", "eps", "weight_decay"])


def initial():
    return State(0.0, 0.0, PARAMETER)


def scalars(step, *, lr, momentum, eps, weight_decay):
    step_size = (lr + eps if lr != 0.0 else 0.0) * math.sqrt(step)
    return Scalars(step_size, momentum, 1.0 - momentum, eps, weight_decay)


def update(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    v = s.grad_sum_sq + h.step_size * (g * g)
    total = s.grad_sum + h.step_size * g
    below = cube_root(v) + h.eps
    z = s.x0 - select(below == 0.0, 0.0, total / below)
    # Where z is p, this is p + -0.0, which is p: to select p in the end would cost the loop its vectors.
    share, other = select(z == p, 1.0, h.momentum), select(z == p, -0.0, z)
    return share * p + h.one_minus_momentum * other, State(v, total, s.x0)


def reference(p, g, s, step, *, lr, momentum, eps, weight_decay):
    g = decayed_by(g, weight_decay, p)
    weight = (lr + eps if lr != 0.0 else 0.0) * math.sqrt(step)
    v = s.grad_sum_sq + weight * (g * g)
    total = s.grad_sum + weight * g
    below = on_arrays(cube_root, p.dtype.type)(v) + eps
    z = s.x0 - np.where(below == 0.0, 0.0, total / below).astype(p.dtype)
    return np.where(z == p, p, momentum * p + (1.0 - momentum) * z), State(v, total, s.x0)


MADGRAD = Rule(
    "madgrad",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits={"momentum": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE},
    paper="Defazio & Jelassi 2021, Algorithm 1",
    not_negative=("grad_sum_sq",),
)
