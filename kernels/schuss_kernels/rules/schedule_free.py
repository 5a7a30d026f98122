"""Schedule-Free SGD, AdamW and RAdam: averaging in place of momentum and of a schedule.

Defazio et al. 2024, "The Road Less Scheduled", Algorithm 1 for AdamW. The gradient is taken at y, steps go from
z, and x, a weighted mean of the z, is what is evaluated; ``beta`` is SGD's momentum or Adam's beta1::

    u = g                                            SGD
    v = beta2 * v + (1 - beta2) * g^2                AdamW, RAdam
    u = g / (sqrt(v / (1 - beta2^step)) + eps)
    u = u + weight_decay * y
    w = step^r * max(lr so far)^weight_lr_power;     W = W + w;     c = w / W
    z = z - lr * u
    x = (1 - c) * x + c * z
    y = (1 - beta) * z + beta * x

The parameter is y, and x is not kept: with the old z, the last three are ``y = y + c * (z - y) - lr * (1 - beta * (1 -
c)) * u`` and then ``z = z - lr * u``; and x is ``y + (1 - 1 / beta) * (z - y)``. lr grows evenly from 0 over
``warmup_steps`` steps, whose last is the first to have all of it. RAdam has no warm-up, but lr times the rectification
of Liu et al. 2020 (with ``rho = 2 / (1 - beta2) - 1 - 2 * step * beta2^step / (1 - beta2^step)``), which is 0 where rho
is at most 4; without ``silent_sgd_phase`` it is 1 there, and u = g + weight_decay * y.

Conventions. ``authors``: as above, the authors' code. ``paper``: Algorithm 1, which has no bias correction of v but lr
times ``sqrt(1 - beta2^step)``, in w too. ``optax``: the authors', but with warm-up z moves by the lr of the step
before, starting with 0, while w goes by the lr of the step. ``keras``: c = 1 / step, and the decay is of y alone: ``y =
y * (1 - lr * weight_decay)`` before the step, lr without the warm-up. All are other numbers for the same arithmetic.
"""

import math
from collections import namedtuple

import numpy as np

from ..lang.convention import Convention, Conventions
from ..lang.rule import FRACTION, NOT_NEGATIVE, PARAMETER, Rule
from ..lang.scalar_math import decayed, decayed_by, difference, difference_of, product
from . import radam

SgdState = namedtuple("SgdState", ["z"])
State = namedtuple("State", ["z", "exp_avg_sq"])
SgdScalars = namedtuple("SgdScalars", ["lr", "y_lr", "mix", "weight_decay"])
Scalars = namedtuple(
    "Scalars", ["lr", "y_lr", "mix", "weight_decay", "keep", "beta2", "one_minus_beta2", "correction2", "eps"]
)
Running = namedtuple("Running", ["weight_sum", "lr_max"], defaults=[0.0, 0.0])


def initial_sgd():
    return SgdState(PARAMETER)


def initial():
    return State(PARAMETER, 0.0)


def warmed(step, warmup_steps):
    """The share of lr that a step of the warm-up has."""
    return step / warmup_steps if step < warmup_steps else 1.0


def mean(step, running, lr, r, weight_lr_power):
    """What the new z counts in the mean, and the running numbers after it."""
    lr_max = max(lr, running.lr_max)
    weight = step**r * lr_max**weight_lr_power
    total = running.weight_sum + weight
    return weight / total if total > 0.0 else 0.0, Running(total, lr_max)


def _y_lr(lr, beta, mix):
    """What y moves by, against u."""
    return lr * (1.0 - beta * (1.0 - mix))


def scalars_sgd(step, running, *, lr, momentum, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return SgdScalars(lr, _y_lr(lr, momentum, mix), mix, weight_decay), running


def scalars_sgd_optax(step, running, *, lr, momentum, weight_decay, warmup_steps, r, weight_lr_power):
    mix, running = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    lr = lr * warmed(step - 1, warmup_steps)
    return SgdScalars(lr, _y_lr(lr, momentum, mix), mix, weight_decay), running


def _scalars(lr, mix, step, betas, eps, weight_decay):
    """The scalars of all conventions, with the bias correction."""
    beta1, beta2 = betas
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(lr, _y_lr(lr, beta1, mix), mix, weight_decay, 1.0, beta2, 1.0 - beta2, correction2, eps)


def scalars(step, running, *, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return _scalars(lr, mix, step, betas, eps, weight_decay), running


def scalars_paper(step, running, *, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps) * math.sqrt(1.0 - betas[1] ** step)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return _scalars(lr, mix, step, betas, eps, weight_decay)._replace(correction2=1.0), running


def scalars_optax(step, running, *, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    mix, running = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    return _scalars(lr * warmed(step - 1, warmup_steps), mix, step, betas, eps, weight_decay), running


def scalars_keras(step, running, *, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    mix, running = mean(step, running, 1.0, r, weight_lr_power)
    h = _scalars(lr * warmed(step, warmup_steps), mix, step, betas, eps, 0.0)
    return h._replace(keep=1.0 - lr * weight_decay), running


def scalars_radam(step, running, *, lr, betas, eps, weight_decay, r, weight_lr_power, silent_sgd_phase):
    rectified = radam.rectification(step, betas[1], 4.0)
    lr = lr * (rectified if rectified > 0.0 or silent_sgd_phase else 1.0)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    h = _scalars(lr, mix, step, betas, eps, weight_decay)
    return h if rectified > 0.0 else h._replace(correction2=0.0, eps=1.0), running  # divided by 1


def update_sgd(p, g, s, h):
    u = decayed(g, h.weight_decay, p)
    return p + h.mix * difference(s.z, p) - h.y_lr * u, SgdState(s.z - h.lr * u)


def update(p, g, s, h):
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = decayed(g / (product(h.correction2, math.sqrt(v)) + h.eps), h.weight_decay, p)
    y = p * h.keep
    return y + h.mix * difference(s.z, y) - h.y_lr * u, State(s.z - h.lr * u, v)


def averaged(y, z, u, lr, beta, c):
    """y and z after a step along u, the new z being the share c of the mean x."""
    return y + c * difference_of(z, y) - lr * (1.0 - beta * (1.0 - c)) * u, z - lr * u


def reference_sgd(p, g, s, step, *, running, lr, momentum, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps)
    c, _ = mean(step, running, lr, r, weight_lr_power)
    y, z = averaged(p, s.z, decayed_by(g, weight_decay, p), lr, momentum, c)
    return y, SgdState(z)


def reference_sgd_optax(p, g, s, step, *, running, lr, momentum, weight_decay, warmup_steps, r, weight_lr_power):
    c, _ = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    y, z = averaged(p, s.z, decayed_by(g, weight_decay, p), lr * warmed(step - 1, warmup_steps), momentum, c)
    return y, SgdState(z)


def _reference(p, g, s, step, lr, c, betas, eps, weight_decay, corrected=True):
    """The AdamW step of most conventions; ``corrected``: the second moment, of its bias."""
    beta1, beta2 = betas
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    correction = 1.0 / math.sqrt(1.0 - beta2**step) if corrected else 1.0
    u = decayed_by(g / (np.sqrt(v) * correction + eps), weight_decay, p)
    y, z = averaged(p, s.z, u, lr, beta1, c)
    return y, State(z, v)


def reference(p, g, s, step, *, running, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps)
    c, _ = mean(step, running, lr, r, weight_lr_power)
    return _reference(p, g, s, step, lr, c, betas, eps, weight_decay)


def reference_paper(p, g, s, step, *, running, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    lr = lr * warmed(step, warmup_steps) * math.sqrt(1.0 - betas[1] ** step)
    c, _ = mean(step, running, lr, r, weight_lr_power)
    return _reference(p, g, s, step, lr, c, betas, eps, weight_decay, corrected=False)


def reference_optax(p, g, s, step, *, running, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    c, _ = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    return _reference(p, g, s, step, lr * warmed(step - 1, warmup_steps), c, betas, eps, weight_decay)


def reference_keras(p, g, s, step, *, running, lr, betas, eps, weight_decay, warmup_steps, r, weight_lr_power):
    beta1, beta2 = betas
    c, _ = mean(step, running, 1.0, r, weight_lr_power)
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    u = g / (np.sqrt(v) * (1.0 / math.sqrt(1.0 - beta2**step)) + eps)  # no decay of z
    y, z = averaged(p * (1.0 - lr * weight_decay), s.z, u, lr * warmed(step, warmup_steps), beta1, c)
    return y, State(z, v)


def reference_radam(p, g, s, step, *, running, lr, betas, eps, weight_decay, r, weight_lr_power, silent_sgd_phase):
    beta1, beta2 = betas
    rectified = radam.rectification(step, beta2, 4.0)
    lr = lr * (rectified if rectified > 0.0 or silent_sgd_phase else 1.0)
    c, _ = mean(step, running, lr, r, weight_lr_power)
    if rectified > 0.0:
        return _reference(p, g, s, step, lr, c, betas, eps, weight_decay)
    v = beta2 * s.exp_avg_sq + (1.0 - beta2) * (g * g)
    y, z = averaged(p, s.z, decayed_by(g, weight_decay, p), lr, beta1, c)
    return y, State(z, v)


LIMITS = {
    "momentum": FRACTION,
    "betas": FRACTION,
    "eps": NOT_NEGATIVE,
    "weight_decay": NOT_NEGATIVE,
    "warmup_steps": NOT_NEGATIVE,
    "r": NOT_NEGATIVE,
    "weight_lr_power": NOT_NEGATIVE,
}
_PAPER = "Defazio et al. 2024"

SGD = Rule(
    "schedule_free_sgd",
    SgdState,
    SgdScalars,
    scalars_sgd,
    update_sgd,
    reference_sgd,
    initial_sgd,
    limits=LIMITS,
    paper=_PAPER,
    running=Running,
)
SGD_OPTAX = SGD.variant(
    "schedule_free_sgd_optax",
    scalars=scalars_sgd_optax,
    reference=reference_sgd_optax,
    paper=f"{_PAPER}, as in Optax",
)
ADAMW = Rule(
    "schedule_free_adamw",
    State,
    Scalars,
    scalars,
    update,
    reference,
    initial,
    limits=LIMITS,
    paper=f"{_PAPER}, the authors' code",
    not_negative=("exp_avg_sq",),
    running=Running,
)
ADAMW_PAPER = ADAMW.variant(
    "schedule_free_adamw_paper", scalars=scalars_paper, reference=reference_paper, paper=f"{_PAPER}, Algorithm 1"
)
ADAMW_OPTAX = ADAMW.variant(
    "schedule_free_adamw_optax", scalars=scalars_optax, reference=reference_optax, paper=f"{_PAPER}, as in Optax"
)
ADAMW_KERAS = ADAMW.variant(
    "schedule_free_adamw_keras", scalars=scalars_keras, reference=reference_keras, paper=f"{_PAPER}, as in Keras"
)
RADAM = ADAMW.variant("schedule_free_radam", scalars=scalars_radam, reference=reference_radam)

SGD_CONVENTIONS = Conventions(authors=Convention({}, SGD), optax=Convention({}, SGD_OPTAX))
ADAMW_CONVENTIONS = Conventions(
    authors=Convention({"weight_lr_power": 2.0}, ADAMW),
    optax=Convention({"weight_lr_power": 2.0}, ADAMW_OPTAX),
    keras=Convention({"weight_lr_power": 0.0}, ADAMW_KERAS),
    paper=Convention({"weight_lr_power": 2.0}, ADAMW_PAPER),
)


def rule_for_sgd(*, momentum, convention, r, **_):
    """The rule that runs for a group's options."""
    _check("momentum", momentum)
    _only("r", r, convention, ("optax",))
    return SGD_CONVENTIONS[convention].rule


def rule_for_adamw(*, betas, convention, r, weight_lr_power, **_):
    """The rule that runs for a group's options."""
    _check("betas[0]", betas[0] if isinstance(betas, (tuple, list)) and betas else None)
    _only("r", r, convention, ("optax", "keras"))
    _only("weight_lr_power", weight_lr_power, convention, ("keras",))
    return ADAMW_CONVENTIONS[convention].rule


def rule_for_radam(*, betas, **_):
    """The rule that runs for a group's options."""
    _check("betas[0]", betas[0] if isinstance(betas, (tuple, list)) and betas else None)
    return RADAM


def _check(name, value):
    if value == 0:
        raise ValueError(f"{name}: expected a number above 0, as x is found by dividing by it; got {value!r}")


def _only(name, value, convention, without):
    if convention in without and value:
        raise ValueError(f"{name} is the authors'; with convention={convention!r} it is 0; got {value!r}")
