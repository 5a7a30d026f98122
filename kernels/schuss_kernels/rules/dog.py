"""DoG, LDoG and DoWG: SGD whose learning rate is the distance gone, over the gradients met on the way.

Ivgi, Hinder & Carmon 2023, "DoG is SGD's Best Friend: A Parameter-Free Dynamic Step Size Schedule"; Khaled, Mishchenko
& Jin 2023, "DoWG Unleashed: An Efficient Universal Parameter-Free Gradient Descent Method", Algorithm 1::

    g' = g + weight_decay * p
    r  = max(r, ||p - x0||)                          r starts as reps_rel * (1 + ||x0||)
    G  = G + ||g'||^2                                DoG
    p  = p - lr * r / sqrt(G + eps) * g'

    G  = G + r^2 * ||g'||^2                          DoWG; r^2 starts as init_estim_sq_dist, or eps
    p  = p - lr * r^2 / (sqrt(G) + eps) * g'

The norms go over all tensors of a group; LDoG is DoG with norms of each tensor. ``init_eta`` says what the first step
multiplies the gradient by (lr does not count there, as in the authors' code; Optax multiplies by lr), ``init_dist``
what r starts as. Everything else is the same in the authors' code and in Optax. A step that has met no gradient yet
moves nothing.
"""

import math
from collections import namedtuple

from ..lang.rule import NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import INFINITE, decayed, decayed_by, difference, difference_of

State = namedtuple("State", ["x0"])
Scalars = namedtuple("Scalars", ["lr", "weight_decay", "eps", "first", "relative", "init_eta"])
Sums = namedtuple("Sums", ["gradients", "distance"])
Found = namedtuple("Found", ["lr"])
Running = namedtuple("Running", ["begun", "max_dist", "gradients"], defaults=[0.0, 0.0, 0.0])
WeightedRunning = namedtuple("WeightedRunning", ["max_sq_dist", "gradients"], defaults=[0.0, 0.0])


def initial():
    return State(PARAMETER)


def relative(step, reps_rel, init_eta, init_dist):
    """What r starts as, to 1 + ||x0||; 0 after the first step, or where something else is given."""
    return reps_rel if step == 1 and not (init_eta > 0.0 or init_dist > 0.0) else 0.0


def scalars(step, *, lr, reps_rel, init_eta, init_dist, eps, weight_decay):
    return Scalars(lr, weight_decay, eps, init_dist, relative(step, reps_rel, init_eta, init_dist), init_eta)


def scalars_dowg(step, *, lr, init_estim_sq_dist, eps, weight_decay):
    return Scalars(lr, weight_decay, eps, init_estim_sq_dist if init_estim_sq_dist > 0.0 else eps, 0.0, 0.0)


def measure(p, g, s, h):
    # Before the first step there is no way behind, and the norm of the weights takes the place of its length.
    g = decayed(g, h.weight_decay, p)
    away = p if h.relative > 0.0 else difference(p, s.x0)
    return Sums(g * g, away * away)


def finish(h, sums, step, running):
    begun, r, gradients = running
    distance = 0.0 if sums.distance == INFINITE else math.sqrt(sums.distance)  # infinite: of weights that are a mask
    if not begun:
        r = h.first + h.relative * (1.0 + distance)
    if h.relative > 0.0:
        distance = 0.0
    r, gradients = max(r, distance), gradients + sums.gradients
    below = math.sqrt(gradients + h.eps)
    rate = h.lr * r / below if below != 0.0 else 0.0
    if not begun and h.init_eta > 0.0:
        rate = h.init_eta
    return Found(rate), Running(1.0, r, gradients)


def finish_dowg(h, sums, step, running):
    r = max(running.max_sq_dist, h.first, sums.distance)
    gradients = running.gradients + r * sums.gradients
    below = math.sqrt(gradients) + h.eps
    return Found(h.lr * r / below if below != 0.0 else 0.0), WeightedRunning(r, gradients)


def update(p, g, s, h):
    return p - h.lr * decayed(g, h.weight_decay, p), State(s.x0)


def reference_measure(p, g, s, step, *, weight_decay, reps_rel, init_eta, init_dist, **_):
    # Before the first step there is no way behind, and the norm of the weights takes the place of its length.
    g = decayed_by(g, weight_decay, p)
    first = step == 1 and reps_rel > 0.0 and init_eta == init_dist == 0.0
    away = p if first else difference_of(p, s.x0)
    return Sums(g * g, away * away)


def reference(p, g, s, step, *, running, sums, lr, reps_rel, init_eta, init_dist, eps, weight_decay):
    relative = reps_rel if step == 1 and init_eta == init_dist == 0.0 else 0.0
    distance = 0.0 if sums.distance == INFINITE else math.sqrt(sums.distance)
    r = running.max_dist if running.begun else init_dist + relative * (1.0 + distance)
    r = max(r, 0.0 if relative > 0.0 else distance)
    below = math.sqrt(running.gradients + sums.gradients + eps)
    rate = lr * r / below if below != 0.0 else 0.0
    if init_eta > 0.0 and not running.begun:
        rate = init_eta
    return p - rate * decayed_by(g, weight_decay, p), s


def reference_measure_dowg(p, g, s, step, *, weight_decay, **_):
    g, away = decayed_by(g, weight_decay, p), difference_of(p, s.x0)
    return Sums(g * g, away * away)


def reference_dowg(p, g, s, step, *, running, sums, lr, init_estim_sq_dist, eps, weight_decay):
    r2 = max(running.max_sq_dist, init_estim_sq_dist if init_estim_sq_dist > 0.0 else eps, sums.distance)
    below = math.sqrt(running.gradients + r2 * sums.gradients) + eps
    rate = lr * r2 / below if below != 0.0 else 0.0
    return p - rate * decayed_by(g, weight_decay, p), s


DOG = Rule(
    "dog",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits=dict.fromkeys(
        ("reps_rel", "init_eta", "init_dist", "init_estim_sq_dist", "eps", "weight_decay"), NOT_NEGATIVE
    ),
    paper="Ivgi, Hinder & Carmon 2023",
    running=Running,
    Sums=Sums,
    measure=measure,
    finish=finish,
    over="all",
    reference_measure=reference_measure,
)
LDOG = DOG.variant("ldog", over="tensor", paper="Ivgi, Hinder & Carmon 2023, layer by layer")
DOWG = DOG.variant(
    "dowg",
    scalars=scalars_dowg,
    reference=reference_dowg,
    running=WeightedRunning,
    finish=finish_dowg,
    reference_measure=reference_measure_dowg,
    paper="Khaled, Mishchenko & Jin 2023, Algorithm 1",
)


def _checked(rule, init_eta, init_dist):
    if init_eta and init_dist:
        raise ValueError(f"init_eta and init_dist: expected at most one of them; got {init_eta!r} and {init_dist!r}")
    return rule


def rule_for(*, init_eta, init_dist, **_):
    """The rule that runs for a group's options."""
    return _checked(DOG, init_eta, init_dist)


def rule_for_ldog(*, init_eta, init_dist, **_):
    """The rule that runs for a group's options."""
    return _checked(LDOG, init_eta, init_dist)
