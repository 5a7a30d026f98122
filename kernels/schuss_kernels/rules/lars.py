"""LARS: momentum whose learning rate is, tensor by tensor, in proportion to the weights over the gradient.

You, Gitman & Ginsburg 2017, "Large Batch Training of Convolutional Networks", Algorithm 1::

    rate = lr * trust_coefficient * ||p|| / (||g|| + weight_decay * ||p|| + eps)        one number a tensor
    v    = momentum * v + rate * (g + weight_decay * p)
    p    = p - v                                                                        plain
    p    = p - (momentum * v + rate * (g + weight_decay * p))                           Nesterov

The paper has no eps; it is 0. Where a norm is zero, ``rate = lr``: as it is in Optax, and as Apex leaves the gradient.
With ``clip`` this is LARC (NVIDIA Apex): lr becomes the most that the rate may be, ``rate = min(lr, trust_coefficient *
||p|| / (...))``. Apex has lr outside the velocity, which is the same path for a constant lr.

Conventions. ``paper``: as above. ``optax`` takes the norm of the sum: ``rate = lr * trust_coefficient * ||p|| / (||g +
weight_decay * p|| + eps)``.
"""

import math
from collections import namedtuple

from ..lang.convention import Convention, Conventions
from ..lang.rule import NOT_NEGATIVE, Rule
from ..lang.scalar_math import INFINITE, decayed, decayed_by, huge_square, huge_square_of, norm, square, square_of

State = namedtuple("State", ["velocity"])
Scalars = namedtuple("Scalars", ["lr", "momentum", "weight_decay", "trust_coefficient", "most", "eps"])
Sums = namedtuple("Sums", ["weights", "gradients", "huge"])
DecayedSums = namedtuple("DecayedSums", ["weights", "decayed", "huge"])
Found = namedtuple("Found", ["lr"])


def scalars(step, *, lr, momentum, weight_decay, trust_coefficient, eps, clip):
    # lr * trust_coefficient, without a limit; or trust_coefficient, lr being the limit.
    coefficient, most = (trust_coefficient, lr) if clip else (lr * trust_coefficient, math.inf)
    return Scalars(lr, momentum, weight_decay, coefficient, most, eps)


def measure(p, g, s, h):
    return Sums(p * p, square(g), huge_square(g))


def measure_decayed(p, g, s, h):
    g = decayed(g, h.weight_decay, p)
    return DecayedSums(p * p, square(g), huge_square(g))


def rate(weights, move, h):
    """The learning rate of a tensor, from the norm of its weights and of what moves it."""
    if not (0.0 < weights < INFINITE and move > 0.0):
        return h.lr
    return min(h.trust_coefficient * weights / (move + h.eps), h.most)


def finish(h, sums, step):
    weights, gradient = math.sqrt(sums.weights), norm(sums.gradients, sums.huge)
    return Found(rate(weights, gradient + h.weight_decay * weights if gradient > 0.0 else 0.0, h))


def finish_decayed(h, sums, step):
    return Found(rate(math.sqrt(sums.weights), norm(sums.decayed, sums.huge), h))


def update(p, g, s, h):
    v = h.momentum * s.velocity + h.lr * decayed(g, h.weight_decay, p)
    return p - v, State(v)


def update_nesterov(p, g, s, h):
    d = h.lr * decayed(g, h.weight_decay, p)
    v = h.momentum * s.velocity + d
    return p - (h.momentum * v + d), State(v)


def reference_measure(p, g, s, step, **_):
    return Sums(p * p, square_of(g), huge_square_of(g))


def reference_measure_decayed(p, g, s, step, *, weight_decay, **_):
    g = decayed_by(g, weight_decay, p)
    return DecayedSums(p * p, square_of(g), huge_square_of(g))


def _rate(sums, lr, weight_decay, trust_coefficient, eps, clip):
    """The learning rate of a tensor in both conventions, told apart by the sums."""
    weights = math.sqrt(sums.weights)
    if type(sums) is Sums:
        gradient = norm(sums.gradients, sums.huge)
        move = gradient + weight_decay * weights if gradient > 0.0 else 0.0
    else:
        move = norm(sums.decayed, sums.huge)
    if not (0.0 < weights < INFINITE and move > 0.0):
        return lr
    if clip:
        return min(trust_coefficient * weights / (move + eps), lr)
    return lr * trust_coefficient * weights / (move + eps)


def reference(p, g, s, step, *, sums, lr, momentum, weight_decay, trust_coefficient, eps, clip):
    rate = _rate(sums, lr, weight_decay, trust_coefficient, eps, clip)
    v = momentum * s.velocity + rate * decayed_by(g, weight_decay, p)
    return p - v, State(v)


def reference_nesterov(p, g, s, step, *, sums, lr, momentum, weight_decay, trust_coefficient, eps, clip):
    d = _rate(sums, lr, weight_decay, trust_coefficient, eps, clip) * decayed_by(g, weight_decay, p)
    v = momentum * s.velocity + d
    return p - (momentum * v + d), State(v)


_PAPER = "You, Gitman & Ginsburg 2017, Algorithm 1"

LARS = Rule(
    "lars",
    State,
    Scalars,
    scalars,
    update,
    reference,
    limits=dict.fromkeys(("momentum", "weight_decay", "trust_coefficient", "eps"), NOT_NEGATIVE),
    paper=_PAPER,
    Sums=Sums,
    measure=measure,
    finish=finish,
    reference_measure=reference_measure,
)
LARS_NESTEROV = LARS.variant("lars_nesterov", update=update_nesterov, reference=reference_nesterov)
LARS_OPTAX = LARS.variant(
    "lars_optax",
    Sums=DecayedSums,
    measure=measure_decayed,
    finish=finish_decayed,
    reference_measure=reference_measure_decayed,
    paper=f"{_PAPER}, as in Optax",
)
LARS_OPTAX_NESTEROV = LARS_OPTAX.variant("lars_optax_nesterov", update=update_nesterov, reference=reference_nesterov)

CONVENTIONS = Conventions(
    paper=Convention({}, LARS, {"nesterov": LARS_NESTEROV}),
    optax=Convention({}, LARS_OPTAX, {"nesterov": LARS_OPTAX_NESTEROV}),
)


def rule_for(*, momentum, nesterov, convention, **_):
    """The rule that runs for a group's options."""
    if nesterov and not momentum > 0.0:
        raise ValueError(f"nesterov needs momentum above 0; got {momentum=}")
    found = CONVENTIONS[convention]
    return found.forms["nesterov"] if nesterov else found.rule
