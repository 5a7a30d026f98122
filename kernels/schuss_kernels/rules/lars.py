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

from ..lang.rule import NOT_NEGATIVE, Rule

State = namedtuple("State", ["velocity"])
Scalars = namedtuple("Scalars", ["lr", "momentum", "weight_decay", "trust_coefficient", "most", "eps"])
Sums = namedtuple("Sums", ["weights", "gradients"])
DecayedSums = namedtuple("DecayedSums", ["weights", "decayed"])
Found = namedtuple("Found", ["lr"])


def scalars(step, *, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, clip=False):
    # lr * trust_coefficient, without a limit; or trust_coefficient, lr being the limit.
    coefficient, most = (trust_coefficient, lr) if clip else (lr * trust_coefficient, math.inf)
    return Scalars(lr, momentum, weight_decay, coefficient, most, eps)


def measure(p, g, s, h):
    return Sums(p * p, g * g)


def measure_decayed(p, g, s, h):
    g = g + h.weight_decay * p
    return DecayedSums(p * p, g * g)


def rate(weights, move, h):
    """The learning rate of a tensor, from the norm of its weights and of what moves it."""
    if not (weights > 0.0 and move > 0.0):
        return h.lr
    return min(h.trust_coefficient * weights / (move + h.eps), h.most)


def finish(h, sums, step):
    weights, gradient = math.sqrt(sums.weights), math.sqrt(sums.gradients)
    return Found(rate(weights, gradient + h.weight_decay * weights if gradient > 0.0 else 0.0, h))


def finish_decayed(h, sums, step):
    return Found(rate(math.sqrt(sums.weights), math.sqrt(sums.decayed), h))


def update(p, g, s, h):
    v = h.momentum * s.velocity + h.lr * (g + h.weight_decay * p)
    return p - v, State(v)


def update_nesterov(p, g, s, h):
    d = h.lr * (g + h.weight_decay * p)
    v = h.momentum * s.velocity + d
    return p - (h.momentum * v + d), State(v)


def reference_measure(
    p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, clip=False
):
    return Sums(p * p, g * g)


def reference_measure_decayed(
    p, g, s, step, *, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, clip=False
):
    g = g + weight_decay * p
    return DecayedSums(p * p, g * g)


def _reference(nesterov):
    def reference(
        p, g, s, step, *, sums, lr, momentum=0.9, weight_decay=0.0, trust_coefficient=0.001, eps=0.0, clip=False
    ):
        h = scalars(
            step, lr=lr, momentum=momentum, weight_decay=weight_decay, trust_coefficient=trust_coefficient, eps=eps,
            clip=clip,
        )  # fmt: skip
        found = finish(h, sums, step) if type(sums) is Sums else finish_decayed(h, sums, step)
        d = found.lr * (g + weight_decay * p)
        v = momentum * s.velocity + d
        return p - (momentum * v + d if nesterov else v), State(v)

    return reference


LIMITS = dict.fromkeys(("momentum", "weight_decay", "trust_coefficient", "eps"), NOT_NEGATIVE)
_PAPER = "You, Gitman & Ginsburg 2017, Algorithm 1"
_PAPERS_NORM = (Sums, measure, finish, reference_measure)
_OPTAXS_NORM = (DecayedSums, measure_decayed, finish_decayed, reference_measure_decayed)


def _rule(name, update, nesterov, norm, paper):
    sums, measure, finish, reference_measure = norm
    return Rule(
        name, State, Scalars, scalars, update, _reference(nesterov), limits=LIMITS, paper=paper, Sums=sums,
        measure=measure, finish=finish, reference_measure=reference_measure,
    )  # fmt: skip


LARS = _rule("lars", update, False, _PAPERS_NORM, _PAPER)
LARS_NESTEROV = _rule("lars_nesterov", update_nesterov, True, _PAPERS_NORM, _PAPER)
LARS_OPTAX = _rule("lars_optax", update, False, _OPTAXS_NORM, f"{_PAPER}, as in Optax")
LARS_OPTAX_NESTEROV = _rule("lars_optax_nesterov", update_nesterov, True, _OPTAXS_NORM, f"{_PAPER}, as in Optax")


def select(*, momentum, nesterov, convention="paper", **_):
    """The rule that runs for a group's options."""
    if nesterov and not momentum > 0.0:
        raise ValueError(f"nesterov needs momentum above 0; got {momentum=}")
    plain, ahead = (LARS_OPTAX, LARS_OPTAX_NESTEROV) if convention == "optax" else (LARS, LARS_NESTEROV)
    return ahead if nesterov else plain
