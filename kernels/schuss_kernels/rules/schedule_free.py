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

from ..lang.rule import FRACTION, NOT_NEGATIVE, PARAMETER, Rule

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


def y_lr(lr, beta, mix):
    """What y moves by, against u."""
    return lr * (1.0 - beta * (1.0 - mix))


def scalars_sgd(
    step, running, *, lr, momentum=0.9, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    lr = lr * warmed(step, warmup_steps)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return SgdScalars(lr, y_lr(lr, momentum, mix), mix, weight_decay), running


def scalars_sgd_optax(
    step, running, *, lr, momentum=0.9, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    mix, running = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    lr = lr * warmed(step - 1, warmup_steps)
    return SgdScalars(lr, y_lr(lr, momentum, mix), mix, weight_decay), running


def _scalars(lr, mix, step, betas, eps, weight_decay):
    """The numbers of all conventions, with the bias correction."""
    beta1, beta2 = betas
    correction2 = 1.0 / math.sqrt(1.0 - beta2**step)
    return Scalars(lr, y_lr(lr, beta1, mix), mix, weight_decay, 1.0, beta2, 1.0 - beta2, correction2, eps)


def scalars(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    lr = lr * warmed(step, warmup_steps)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return _scalars(lr, mix, step, betas, eps, weight_decay), running


def scalars_paper(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    lr = lr * warmed(step, warmup_steps) * math.sqrt(1.0 - betas[1] ** step)
    mix, running = mean(step, running, lr, r, weight_lr_power)
    return _scalars(lr, mix, step, betas, eps, weight_decay)._replace(correction2=1.0), running


def scalars_optax(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=2.0
):  # fmt: skip
    mix, running = mean(step, running, lr * warmed(step, warmup_steps), r, weight_lr_power)
    return _scalars(lr * warmed(step - 1, warmup_steps), mix, step, betas, eps, weight_decay), running


def scalars_keras(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_steps=0.0, r=0.0, weight_lr_power=0.0
):  # fmt: skip
    mix, running = mean(step, running, 1.0, r, weight_lr_power)
    h = _scalars(lr * warmed(step, warmup_steps), mix, step, betas, eps, 0.0)
    return h._replace(keep=1.0 - lr * weight_decay), running


def scalars_radam(
    step, running, *, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, r=0.0, weight_lr_power=2.0,
    silent_sgd_phase=True,
):  # fmt: skip
    beta2 = betas[1]
    limit = 2.0 / (1.0 - beta2) - 1.0
    rho = limit - 2.0 * step * beta2**step / (1.0 - beta2**step)
    if rho > 4.0:
        lr = lr * math.sqrt((rho - 4.0) * (rho - 2.0) * limit / ((limit - 4.0) * (limit - 2.0) * rho))
    elif silent_sgd_phase:
        lr = 0.0
    mix, running = mean(step, running, lr, r, weight_lr_power)
    h = _scalars(lr, mix, step, betas, eps, weight_decay)
    return h if rho > 4.0 else h._replace(correction2=0.0, eps=1.0), running  # divided by 1


def update_sgd(p, g, s, h):
    u = g + h.weight_decay * p
    return p + h.mix * (s.z - p) - h.y_lr * u, SgdState(s.z - h.lr * u)


def update(p, g, s, h):
    v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
    u = g / (math.sqrt(v) * h.correction2 + h.eps) + h.weight_decay * p
    y = p * h.keep
    return y + h.mix * (s.z - y) - h.y_lr * u, State(s.z - h.lr * u, v)


def _reference_sgd(scalars):
    def reference(p, g, s, step, *, running, **options):
        h, _ = scalars(step, running, **options)
        u = g + h.weight_decay * p
        return p + h.mix * (s.z - p) - h.y_lr * u, SgdState(s.z - h.lr * u)

    return reference


def _reference(scalars):
    def reference(p, g, s, step, *, running, **options):
        h, _ = scalars(step, running, **options)
        v = h.beta2 * s.exp_avg_sq + h.one_minus_beta2 * (g * g)
        u = g / (np.sqrt(v) * h.correction2 + h.eps) + h.weight_decay * p
        y = p * h.keep
        return y + h.mix * (s.z - y) - h.y_lr * u, State(s.z - h.lr * u, v)

    return reference


LIMITS = {
    "momentum": FRACTION, "betas": FRACTION, "eps": NOT_NEGATIVE, "weight_decay": NOT_NEGATIVE,
    "warmup_steps": NOT_NEGATIVE, "r": NOT_NEGATIVE, "weight_lr_power": NOT_NEGATIVE,
}  # fmt: skip
_PAPER = "Defazio et al. 2024"


def _sgd(name, scalars, paper):
    return Rule(
        name, SgdState, SgdScalars, scalars, update_sgd, _reference_sgd(scalars), initial_sgd, limits=LIMITS,
        paper=paper, running=Running,
    )  # fmt: skip


def _adam(name, scalars, paper):
    return Rule(
        name, State, Scalars, scalars, update, _reference(scalars), initial, limits=LIMITS, paper=paper,
        not_negative=("exp_avg_sq",), running=Running,
    )  # fmt: skip


SGD = _sgd("schedule_free_sgd", scalars_sgd, _PAPER)
SGD_OPTAX = _sgd("schedule_free_sgd_optax", scalars_sgd_optax, f"{_PAPER}, as in Optax")
ADAMW = _adam("schedule_free_adamw", scalars, f"{_PAPER}, the authors' code")
ADAMW_PAPER = _adam("schedule_free_adamw_paper", scalars_paper, f"{_PAPER}, Algorithm 1")
ADAMW_OPTAX = _adam("schedule_free_adamw_optax", scalars_optax, f"{_PAPER}, as in Optax")
ADAMW_KERAS = _adam("schedule_free_adamw_keras", scalars_keras, f"{_PAPER}, as in Keras")
RADAM = _adam("schedule_free_radam", scalars_radam, f"{_PAPER}, the authors' code")


def select_sgd(*, momentum, convention="authors", r=0.0, **_):
    """The rule that runs for a group's options."""
    _check("momentum", momentum)
    _only("r", r, convention, ("optax",))
    return SGD_OPTAX if convention == "optax" else SGD


def select_adamw(*, betas, convention="authors", r=0.0, weight_lr_power=0.0, **_):
    """The rule that runs for a group's options."""
    _check("betas[0]", betas[0] if isinstance(betas, (tuple, list)) and betas else None)
    _only("r", r, convention, ("optax", "keras"))
    _only("weight_lr_power", weight_lr_power, convention, ("keras",))
    return {"optax": ADAMW_OPTAX, "keras": ADAMW_KERAS, "paper": ADAMW_PAPER}.get(convention, ADAMW)


def select_radam(*, betas, **_):
    """The rule that runs for a group's options."""
    _check("betas[0]", betas[0] if isinstance(betas, (tuple, list)) and betas else None)
    return RADAM


def _check(name, value):
    if value == 0:
        raise ValueError(f"{name}: expected a number above 0, as x is found by dividing by it; got {value!r}")


def _only(name, value, convention, without):
    if convention in without and value:
        raise ValueError(f"{name} is the authors'; with convention={convention!r} it is 0; got {value!r}")
