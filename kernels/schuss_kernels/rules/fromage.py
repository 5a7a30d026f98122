"""Fromage: steps as large as the weights they move, and a little shrinking that keeps their norm.

Bernstein et al. 2020, "On the distance between two neural networks and the stability of learning", Algorithm 1::

    p  = (p - lr * ||p|| / ||g|| * g) / sqrt(1 + lr^2)              norms of the tensor

Where a norm is zero the ratio is 1, as in the authors' code and in Optax.

Conventions differ in a number. ``paper``: no least norm. ``optax``: both norms are taken as 1e-6 at least, so a tensor
of zeros, which otherwise starts with ``lr * g``, moves by ``lr * 1e-6``.
"""

import math
from collections import namedtuple

from ..lang.convention import Convention, Conventions
from ..lang.rule import NOT_NEGATIVE, Rule
from ..lang.scalar_math import INFINITE, huge_square, huge_square_of, norm, square, square_of

State = namedtuple("State", [])
Scalars = namedtuple("Scalars", ["lr", "keep", "min_norm"])
Sums = namedtuple("Sums", ["weights", "gradients", "huge"])
Found = namedtuple("Found", ["lr"])


def scalars(step, *, lr, min_norm):
    keep = 1.0 / math.sqrt(1.0 + lr * lr)
    return Scalars(lr * keep, keep, min_norm)


def measure(p, g, s, h):
    return Sums(p * p, square(g), huge_square(g))


def ratio(sums, min_norm):
    """The norm of the weights over that of the gradient; 1 where one of them is zero, or the first infinite."""
    weights, gradient = max(math.sqrt(sums.weights), min_norm), max(norm(sums.gradients, sums.huge), min_norm)
    return weights / gradient if 0.0 < weights < INFINITE and gradient > 0.0 else 1.0


def finish(h, sums, step):
    return Found(h.lr * ratio(sums, h.min_norm))


def update(p, g, s, h):
    return p * h.keep - h.lr * g, State()


def reference_measure(p, g, s, step, *, lr, min_norm):
    return Sums(p * p, square_of(g), huge_square_of(g))


def reference(p, g, s, step, *, sums, lr, min_norm):
    weights, gradient = max(math.sqrt(sums.weights), min_norm), max(norm(sums.gradients, sums.huge), min_norm)
    ratio = weights / gradient if 0.0 < weights < INFINITE and gradient > 0.0 else 1.0
    keep = 1.0 / math.sqrt(1.0 + lr * lr)
    return p * keep - (lr * keep * ratio) * g, State()


FROMAGE = Rule(
    "fromage",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits={"min_norm": NOT_NEGATIVE},
    paper="Bernstein et al. 2020, Algorithm 1",
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure,
)

CONVENTIONS = Conventions(
    paper=Convention({"min_norm": 0.0}, FROMAGE),
    optax=Convention({"min_norm": 1e-6}, FROMAGE),
)
